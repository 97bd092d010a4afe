"""Keys of the spill's RocksDB: rows of messages, partition counts, undeliverable messages."""

import struct
from typing import NamedTuple

FORMAT = b"1"
FORMAT_KEY = b"f"
MESSAGES, COUNTS, UNDELIVERED = b"m", b"c", b"u"
BY_KEY = 0
"""The partition's place in a row's key when the partition isn't decided yet; partition n is n + 1."""

_PLACE = struct.Struct(">IQI")
_NUMBERS = struct.Struct(">QI")


class LaneId(NamedTuple):
    """A topic-partition; partition None: messages whose key decides it once the topic's count is known."""

    topic: str
    partition: int | None


class Row(NamedTuple):
    """A row of messages as its key tells: `messages` consecutive ones from sequence number `first` on."""

    first: int
    messages: int
    bytes: int

    @property
    def end(self) -> int:
        """The sequence number behind its last message."""
        return self.first + self.messages


def lane_prefix(lane: LaneId) -> bytes:
    """What the keys of a lane's rows begin with, and no others; no topic's name holds a zero byte."""
    place = BY_KEY if lane.partition is None else lane.partition + 1
    return MESSAGES + lane.topic.encode() + b"\0" + place.to_bytes(4, "big")


def row_key(lane: LaneId, first: int, count: int = 0) -> bytes:
    """The key of a row; with a count of 0, where to seek for the row that begins at `first`."""
    return lane_prefix(lane) + _NUMBERS.pack(first, count)


def parse_row_key(key: bytes) -> tuple[LaneId, int, int]:
    """(lane, first, count) of a row's key; ValueError."""
    topic, zero, place = key[1:].partition(b"\0")
    if not zero or len(place) != _PLACE.size:
        raise ValueError(f"not the key of a row: {key!r}")
    partition, first, count = _PLACE.unpack(place)
    return LaneId(topic.decode(), None if partition == BY_KEY else partition - 1), first, count


def parse_place(key: bytes) -> tuple[int, int]:
    """(first, count) of a row's key, of a lane that is known."""
    first, count = _NUMBERS.unpack_from(key, len(key) - _NUMBERS.size)
    return first, count
