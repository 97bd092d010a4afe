"""Which partition a key belongs to: by the hash that the topic's declaration names."""

import re
from collections.abc import Callable, Mapping
from struct import unpack_from
from types import MappingProxyType
from typing import Literal, get_args
from zlib import crc32

PartitionerName = Literal["murmur2", "crc32", "any"]
PARTITIONERS: tuple[str, ...] = get_args(PartitionerName)
DEFAULT: PartitionerName = "murmur2"
"""Of a topic that declares none, as of Kafka's Java client; and what our own producers use where `any` is declared."""

_M, _SEED, _MASK = 0x5BD1E995, 0x9747B28C, 0xFFFFFFFF
_UUID = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
UUID_BYTES = 36


def encode_key(key: str | int | bytes) -> bytes:
    """The bytes of a record key: 1234 and "1234" are the same key."""
    if isinstance(key, bytes):
        return key
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise TypeError(f"a key is text, an integer or bytes, not {type(key).__name__}")
    return str(key).encode()


def canonical(key: bytes) -> bytes:
    """A key that is a UUID in full is the same in capitals: in lower case then. Any other key as it is."""
    if len(key) != UUID_BYTES or key.islower():  # nearly all: the hot path
        return key
    return key.lower() if _UUID.fullmatch(key) else key


def murmur2(key: bytes) -> int:
    """The hash of Kafka's Java client, unsigned, 32 bits; half of the time that aiokafka's takes."""
    length = len(key)
    hashed, words = _SEED ^ length, length >> 2
    for word in unpack_from(f"<{words}I", key):
        mixed = word * _M & _MASK
        hashed = (hashed * _M ^ (mixed ^ mixed >> 24) * _M) & _MASK
    if length & 3:
        hashed = (hashed ^ int.from_bytes(key[words << 2 :], "little")) * _M & _MASK
    hashed = (hashed ^ hashed >> 13) * _M & _MASK
    return hashed ^ hashed >> 15


def signed_murmur2(key: bytes) -> int:
    """murmur2 as the Java client prints it: a signed 32-bit integer."""
    unsigned = murmur2(key)
    return unsigned - 0x100000000 if unsigned >= 0x80000000 else unsigned


def _by_murmur2(key: bytes, partitions: int) -> int:
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def _by_crc32(key: bytes, partitions: int) -> int:
    return crc32(key) % partitions


KNOWN: Mapping[str, Callable[[bytes, int], int]] = MappingProxyType({"murmur2": _by_murmur2, "crc32": _by_crc32})
"""Those whose choice can be told from the key. murmur2: Java's default. crc32: librdkafka's, `consistent_random`."""


def partition_of(key: bytes, partitions: int, partitioner: str = DEFAULT) -> int:
    """Where a record with this key is written: (murmur2(key) & 0x7fffffff) % n, or crc32(key) % n.

    `any` leaves it to each writer, and ours take murmur2. An empty key hashes too. ValueError when partitions < 1.
    """
    if partitions < 1:
        raise ValueError(f"a topic has at least one partition, not {partitions}")
    return KNOWN.get(partitioner, _by_murmur2)(key, partitions)


def is_anywhere(key: bytes, partitioner: str) -> bool:
    """Whether a record with this key may stand anywhere: librdkafka puts an empty key at random."""
    return not key and partitioner == "crc32"


def belongs(key: bytes, partition: int, partitions: int, partitioner: str) -> bool:
    """Whether a record with this key may stand in `partition`; a UUID belongs where it does in lower case."""
    by = KNOWN.get(partitioner)
    if by is None or is_anywhere(key, partitioner):
        return True
    return by(canonical(key), partitions) == partition


def moved_share(old: int, new: int, keys: int = 100_000) -> float:
    """Share of integer keys 0..keys-1 whose partition changes when the count goes from `old` to `new`."""
    moved = 0
    for number in range(keys):
        hashed = murmur2(b"%d" % number) & 0x7FFFFFFF
        moved += hashed % old != hashed % new
    return moved / keys
