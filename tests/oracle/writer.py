"""Puts generated records into Kafka in bulk: whole record batches, partition by key, order kept, every answer noted."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from itertools import count, islice
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError

from tests.oracle.generator import Made
from tests.oracle.journal import Journal, Written
from tests.oracle.records import partition_of

BATCH_BYTES = 256 * 1024
WINDOW_RECORDS = 4_000
PACED_RECORDS = 40
IN_FLIGHT_MAX = 64
PATIENCE_S = 600.0


async def write(
    bootstrap: str,
    records: Iterable[Made],
    partitions: int,
    *,
    seed: int = 0,
    rate: float | None = None,
    journal: Journal | None = None,
    pace: Callable[[int], Awaitable[None]] | None = None,
    place: Callable[[Made], int | None] | None = None,
) -> Journal:
    """Produce `records` to topics of `partitions` partitions, at most `rate` a second; returns when all are answered.

    Give a `journal` to watch the progress from another task. `pace` is awaited every PACED_RECORDS with the number of
    records sent so far: it may hold the input back for as long as it likes. `place` says where a record with a key
    goes; None leaves it out. Brokers may come and go for up to ten minutes; an error that is not retriable is noted
    (`base_offset` None) and raised at the end.
    """
    journal = journal or Journal(seed)
    source = iter(records)
    window = WINDOW_RECORDS if rate is None else max(1, min(WINDOW_RECORDS, int(rate / 20)))
    window = window if pace is None else PACED_RECORDS
    unkeyed = count()
    started, sent = time.monotonic(), 0
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES, linger_ms=0
    ) as producer:
        requests = _Requests(producer, journal)
        while chunk := list(islice(source, window)):
            lanes: dict[tuple[str, int], list[Made]] = defaultdict(list)
            for made in chunk:
                if made.key is None:
                    partition: int | None = next(unkeyed) % partitions
                else:
                    partition = partition_of(made.key, partitions) if place is None else place(made)
                if partition is None:
                    continue
                lanes[made.topic, partition].append(made)
            for (topic, partition), lane in lanes.items():
                await requests.send(topic, partition, lane)
            sent += len(chunk)
            if rate is not None:
                await asyncio.sleep(max(0.0, started + sent / rate - time.monotonic()))
                await requests.settle(IN_FLIGHT_MAX, only_done=True)
            if pace is not None:
                await pace(sent)
                await requests.settle(IN_FLIGHT_MAX, only_done=True)
        await requests.settle(0)
    if requests.failure is not None:
        raise requests.failure
    return journal


class _Requests:
    """Produce requests under way, oldest first."""

    def __init__(self, producer: AIOKafkaProducer, journal: Journal) -> None:
        self._producer = producer
        self._journal = journal
        self._waiting: deque[tuple[asyncio.Future[Any], str, int, list[Made]]] = deque()
        self.failure: Exception | None = None

    async def send(self, topic: str, partition: int, lane: list[Made]) -> None:
        while lane:
            builder = self._producer.create_batch()
            taken = 0
            for made in lane:
                if not builder.append(timestamp=None, key=made.key, value=made.value, headers=list(made.headers)):
                    break
                taken += 1
            if not taken:
                raise ValueError(f"a record of {len(lane[0].value or b'')} bytes does not fit in a batch")
            builder.close()
            part, lane = lane[:taken], lane[taken:]
            self._waiting.append((await self._enqueue(builder, topic, partition), topic, partition, part))
            await self.settle(IN_FLIGHT_MAX)

    async def _enqueue(self, builder: object, topic: str, partition: int) -> asyncio.Future[Any]:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                future: asyncio.Future[Any] = await self._producer.send_batch(builder, topic, partition=partition)
            except KafkaTimeoutError:  # it had no room, so nothing was taken: offering it again repeats nothing
                if time.monotonic() > deadline:
                    raise
            else:
                return future

    async def settle(self, keep: int, *, only_done: bool = False) -> None:
        """Note answers, oldest first, until at most `keep` requests are under way (or only those already there)."""
        while self._waiting and (len(self._waiting) > keep or (only_done and self._waiting[0][0].done())):
            future, topic, partition, part = self._waiting.popleft()
            base_offset: int | None = None
            try:
                base_offset = (await future).offset
            except Exception as error:  # noqa: BLE001 - whatever it was: the caller gets it at the end, the journal says unknown
                self.failure = self.failure or error
            self._journal.note(Written(topic, partition, base_offset, part))
