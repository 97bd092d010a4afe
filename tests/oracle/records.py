"""Records as the oracle holds them, the names of the topics, and the partitioner, each from the documented formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

USER_EVENTS = "user-events"
TEAM_EVENTS = "team-events"
SOURCES = (USER_EVENTS, TEAM_EVENTS)
COMMENT_COUNTS = "comment-counts"
MESSAGES = "messages"
NOTIFICATIONS = "notifications"
OUTPUTS = (COMMENT_COUNTS, MESSAGES, NOTIFICATIONS)
AGENT = "user-events"

Headers = tuple[tuple[str, bytes | None], ...]


class Record(NamedTuple):
    """One record as it stands in a topic; headers in order, repeated names kept."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


Log = Mapping[int, Sequence[Record]]
"""A topic: partition → its records in offset order."""


class Place(NamedTuple):
    """Where an input record stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


def place(record: Record) -> Place:
    """The coordinates of `record`."""
    return Place(record.topic, record.partition, record.offset)


def murmur2(data: bytes) -> int:
    """MurmurHash2, seed 0x9747b28c, as the Java client computes it; unsigned 32 bits."""
    mask, factor = 0xFFFFFFFF, 0x5BD1E995
    length = len(data)
    whole = length & ~3
    h = 0x9747B28C ^ length
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * factor & mask
        h = (h * factor & mask) ^ ((k ^ k >> 24) * factor & mask)
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * factor & mask
    h = (h ^ h >> 13) * factor & mask
    return h ^ h >> 15


@lru_cache(maxsize=200_000)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of `key` among `partitions`, by the default partitioner of the Java client."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
