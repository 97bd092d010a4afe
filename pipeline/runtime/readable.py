"""Records whose header names aren't UTF-8, made readable: else one such record would stop its partition for ever.

aiokafka's parser raises on them, in the middle of a fetch. Here the rest of that fetch is read once more by its parser
in pure Python, header names with what isn't UTF-8 written as `\\xff`; the record is then judged like any other.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

FORMAT_WITH_HEADERS = 2


class Unreadable(Exception):
    """Bytes of a topic that are no records: skipping them would lose something, so the worker ends."""


class _Name(bytearray):
    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


class _Bytes(bytearray):
    """What is cut out of it decodes leniently."""

    def __getitem__(self, index: Any) -> Any:
        return _Name(super().__getitem__(index)) if isinstance(index, slice) else super().__getitem__(index)


class _LenientBatch(_DefaultRecordBatchPy):
    _buffer: Any

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Bytes(self._buffer)


class _LenientRecords(_MemoryRecordsPy):
    """The record batches of one response that end after `offset`."""

    def __init__(self, data: bytes, offset: int) -> None:
        super().__init__(data)
        while self._next_slice is not None and self._end(self._next_slice) <= offset:
            self._cache_next()

    def _end(self, batch: memoryview) -> int:
        if batch[self.MAGIC_OFFSET] >= FORMAT_WITH_HEADERS:
            return int(DefaultRecordBatch(batch).next_offset)
        return int.from_bytes(batch[:8], "big") + 1  # the older formats give a batch the offset of its last record

    def next_batch(self, *_: Any) -> Any:
        batch = self._next_slice
        if batch is None or batch[self.MAGIC_OFFSET] < FORMAT_WITH_HEADERS:
            return super().next_batch()
        self._cache_next()
        return _LenientBatch(batch)


class _KeptRecords:
    """aiokafka's fast parser, and the bytes that it parses."""

    def __init__(self, data: bytes) -> None:
        self.data, fast = data, MemoryRecords(data)
        self.has_next, self.next_batch, self.size_in_bytes = fast.has_next, fast.next_batch, fast.size_in_bytes


class _PartitionRecords(fetcher.PartitionRecords):
    _records: Any

    def _unpack_records(self) -> Iterator[Any]:
        try:
            try:
                yield from super()._unpack_records()
            except (UnicodeDecodeError, fetcher.Errors.CorruptRecordException) as error:
                if not isinstance(error.__cause__ or error, UnicodeDecodeError):
                    raise
                self._records = _LenientRecords(self._records.data, self.next_fetch_offset)
                yield from super()._unpack_records()
        except Exception as error:
            where = f"{self._tp.topic}[{self._tp.partition}]@{self.next_fetch_offset}"
            raise Unreadable(f"{where} can't be read: {type(error).__name__}: {error}") from error


def read_any_header_name() -> None:
    """Have every consumer of this process read records with any header names; Unreadable names what it can't read."""
    fetcher.MemoryRecords, fetcher.PartitionRecords = _KeptRecords, _PartitionRecords
