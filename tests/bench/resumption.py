"""When each partition goes on: its new owner writes a fence into the changelog, and then the first output."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from pipeline.runtime.store import FENCE
from tests.kafka.trial import Trial
from tests.kafka.waiting import until
from tests.oracle.records import COMMENT_COUNTS


class Resumed(NamedTuple):
    """Seconds after the fault: when the new owner had its fence, and when a reader had its first output."""

    fence_s: float
    output_s: float


class Resumption:
    """Reads the changelog and the counts of comments while workers come and go; `async with Resumption(trial) as seen`.

    An output counts as the new owner's when it comes in a later fetch than the fence: the old owner has stopped, or is
    refused, before there is one. Of several fences (ownership taken again) the last one counts.
    """

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._fenced: dict[int, float] = {}
        self._resumed: dict[int, float] = {}
        self._consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=trial.cluster.bootstrap, isolation_level="read_committed", fetch_max_wait_ms=50
        )
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        topics = (self._trial.changelog, COMMENT_COUNTS)
        assigned = [TopicPartition(topic, number) for topic in topics for number in range(self._trial.partitions)]
        self._consumer.assign(assigned)
        await self._consumer.seek_to_end(*assigned)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._consumer.stop()

    async def after(self, fault_at_s: float, partitions: Collection[int], timeout_s: float) -> dict[int, Resumed]:
        """Wait until each of these partitions has gone on after `fault_at_s` (time.monotonic); partition → when."""

        def all_resumed() -> bool:
            if self._reading is not None and self._reading.done():
                self._reading.result()
            return all(self._fenced.get(number, 0.0) > fault_at_s for number in partitions) and (
                self._resumed.keys() >= set(partitions)
            )

        await until(all_resumed, timeout_s, f"outputs of partitions {sorted(partitions)}")
        return {n: Resumed(self._fenced[n] - fault_at_s, self._resumed[n] - fault_at_s) for n in partitions}

    async def _read(self) -> None:
        while True:
            self.note(await self._consumer.getmany(timeout_ms=1000), time.monotonic())

    def note(self, fetched: Mapping[TopicPartition, list[ConsumerRecord]], now_s: float) -> None:
        """Take in what one fetch brought."""
        for tp, records in fetched.items():
            if tp.topic == COMMENT_COUNTS and tp.partition in self._fenced and records:
                self._resumed.setdefault(tp.partition, now_s)
        for tp, records in fetched.items():
            if tp.topic != COMMENT_COUNTS and any(record.key == FENCE for record in records):
                self._fenced[tp.partition] = now_s
                self._resumed.pop(tp.partition, None)
