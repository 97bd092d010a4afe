"""Reading one topic-partition back, in bounded memory."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError

from pipeline.closing import stopped
from pipeline.producer.errors import BadPartition, NotAvailable

FETCH_BYTES_MAX = 1 << 20
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 2.0
FETCH_WAIT_MS = 200
FETCH_RECORDS_MAX = 500


class Record(NamedTuple):
    """A record of a topic."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Consumption(AsyncIterator[Record]):
    """The records of one topic-partition from an offset on, for ever, until `stop`. At most a fetch of it is in memory.

    Iterating raises NonExistingTopic, BadPartition, NotAvailable when it can't begin; later it waits for the broker.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        topic: str,
        partition: int,
        start: int,
        count: Callable[[str], Awaitable[int]],
        ended: Callable[[], None],
    ) -> None:
        """count: asks for a topic's count of partitions. ended: told when this has ended."""
        self._count = count
        self._tp, self._start, self._ended = TopicPartition(topic, partition), start, ended
        self._options = dict(options)
        self._consumer: AIOKafkaConsumer | None = None
        self._stopping = asyncio.Event()
        self._fetched: deque[Any] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record:
        if self._stopping.is_set():
            raise StopAsyncIteration
        if self._consumer is None:
            try:
                self._consumer = await self._begin()
            except BaseException:
                self._ended()
                raise
        while not self._fetched:
            try:
                fetched = await self._consumer.getmany(
                    self._tp, timeout_ms=FETCH_WAIT_MS, max_records=FETCH_RECORDS_MAX
                )
            except ConsumerStoppedError:
                raise StopAsyncIteration from None
            if self._stopping.is_set():
                raise StopAsyncIteration
            self._fetched.extend(fetched.get(self._tp, ()))
        record = self._fetched.popleft()
        return Record(record.offset, record.timestamp, record.key, record.value, tuple(record.headers))

    async def stop(self) -> None:
        """End the iteration and close the connection."""
        self._stopping.set()
        self._ended()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stopped(consumer.stop(), STOP_TIMEOUT_S)

    async def _begin(self) -> AIOKafkaConsumer:
        topic, partition = self._tp
        count = await self._count(topic)
        if partition >= count:
            raise BadPartition(f"{topic} has {count} partitions, there is no partition {partition}")
        client = self._options
        consumer = AIOKafkaConsumer(
            **client,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_bytes=FETCH_BYTES_MAX,
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
        )
        try:
            await asyncio.wait_for(consumer.start(), START_TIMEOUT_S)
            consumer.assign([self._tp])
            consumer.seek(self._tp, self._start)
        except (KafkaError, OSError, TimeoutError) as error:
            await stopped(consumer.stop(), STOP_TIMEOUT_S)
            raise NotAvailable(f"no broker answers: {error or type(error).__name__}") from error
        except BaseException:
            await stopped(consumer.stop(), STOP_TIMEOUT_S)
            raise
        return consumer
