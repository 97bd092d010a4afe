"""Topics in memory, and the producer that writes to them in a broker's place."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from aiokafka.errors import RequestTimedOutError

from pipeline.core.record import StoredRecord
from pipeline.runtime.ownership import BATCH_BYTES_MAX
from pipeline.testing.failures import Failures

RECORD_OVERHEAD_BYTES = 32


class MemoryLog:
    """What a broker would hold: records by topic-partition, and all of them in the order in which they were written."""

    def __init__(self) -> None:
        self.written: list[StoredRecord] = []
        self._partitions: dict[tuple[str, int], list[StoredRecord]] = {}

    def append(self, record: StoredRecord) -> int:
        """Write a record at the end of its topic-partition, whatever offset it came with; the offset there."""
        stored = self._partitions.setdefault((record.topic, record.partition), [])
        placed = record._replace(offset=len(stored))
        stored.append(placed)
        self.written.append(placed)
        return placed.offset

    def read(self, topic: str, partition: int, start: int = 0) -> list[StoredRecord]:
        """The records of a topic-partition from offset `start`."""
        return self._partitions.get((topic, partition), [])[start:]

    def of_topic(self, topic: str) -> list[StoredRecord]:
        """The records of all partitions of a topic in the order in which they were written."""
        return [record for record in self.written if record.topic == topic]


class MemoryBatch:
    """A record batch that is being built, with the size limit of a real one."""

    def __init__(self) -> None:
        self.records: list[tuple[int | None, bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]] = []
        self._size_bytes = 0

    def append(
        self, *, timestamp: int | None, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]
    ) -> object | None:
        """One more record; None when the batch is full. The first one is always taken, as aiokafka does."""
        kept = tuple(headers)
        size_bytes = RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
        size_bytes += sum(len(name) + len(content or b"") for name, content in kept)
        if self.records and self._size_bytes + size_bytes > BATCH_BYTES_MAX:
            return None
        self._size_bytes += size_bytes
        self.records.append((timestamp, key, value, kept))
        return self

    def close(self) -> None:
        """Nothing more is added."""


class Acknowledged(NamedTuple):
    """What a broker answers: the offset of the batch's first record; and that it has the writer's time."""

    offset: int
    timestamp_type: int = 0


class MemoryProducer:
    """Stands where `Owner` holds aiokafka's producer: everything above it is what runs in a worker."""

    def __init__(self, log: MemoryLog, failures: Failures, now_ms: Callable[[], int]) -> None:
        self._log, self._failures, self._now_ms = log, failures, now_ms
        self._closed = False
        self._sender = self
        self.sender_task = None
        self.client = self

    def create_batch(self) -> MemoryBatch:
        """An empty batch."""
        return MemoryBatch()

    async def send_batch(self, batch: MemoryBatch, topic: str, *, partition: int) -> Any:
        """Write the batch whole or not at all; a future of its acknowledgement."""
        failure = self._failures.next_call("broker")
        acknowledged: asyncio.Future[Acknowledged] = asyncio.get_running_loop().create_future()
        if failure != "refused":
            offset = -1
            for timestamp, key, value, headers in batch.records:
                stamp = self._now_ms() if timestamp is None else timestamp
                written = self._log.append(StoredRecord(topic, partition, -1, stamp, key, value, headers))
                offset = written if offset < 0 else offset
            acknowledged.set_result(Acknowledged(offset))
        if failure is not None:
            raise RequestTimedOutError(f"fault injected: {failure}")
        return acknowledged

    async def close(self) -> None:
        """Nothing to release."""
