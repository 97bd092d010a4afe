"""A record: bytes with key and headers, at a place in a topic-partition."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

type_headers = Sequence[tuple[str, bytes]]


class Record(Protocol):
    """What the path of a record reads of a consumed record; aiokafka's ConsumerRecord is one as it is.

    `timestamp` is in milliseconds since the epoch.
    """

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> type_headers: ...


class StoredRecord(NamedTuple):
    """A record made by hand: the test kit's and the tests' implementation of `Record`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Outbound(NamedTuple):
    """A record to be written: `partition` None means by the key's hash."""

    topic: str
    partition: int | None
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]

    def size_bytes(self) -> int:
        """Upper bound of what this record takes inside a record batch."""
        headers = sum(len(name.encode()) + len(value or b"") + 10 for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers + 40


class Batch(NamedTuple):
    """Consecutive records of one topic-partition: positions [start, end), end being the next offset to read.

    One that ends before it starts has no records: the log has lost those up to `start`, and goes on at `end`.
    """

    topic: str
    partition: int
    start: int
    end: int
    seek: int
    records: Sequence[Record]
