"""Which partition a key belongs to: the Java client's partitioner (O1)."""

from aiokafka.partitioner import murmur2


def encode_key(key: str | int | bytes) -> bytes:
    """The bytes of a record key: 1234 and "1234" are the same key."""
    if isinstance(key, bytes):
        return key
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise TypeError(f"a key is text, an integer or bytes, not {type(key).__name__}")
    return str(key).encode()


def signed_murmur2(key: bytes) -> int:
    """murmur2 as the Java client prints it: a signed 32-bit integer."""
    unsigned = int(murmur2(key)) & 0xFFFFFFFF
    return unsigned - 0x100000000 if unsigned >= 0x80000000 else unsigned


def partition_of(key: bytes, partitions: int) -> int:
    """(murmur2(key) & 0x7fffffff) % partitions; an empty key hashes too. ValueError when partitions < 1."""
    if partitions < 1:
        raise ValueError(f"a topic has at least one partition, not {partitions}")
    return (int(murmur2(key)) & 0x7FFFFFFF) % partitions


def moved_share(old: int, new: int, keys: int = 100_000) -> float:
    """Share of integer keys 0..keys-1 whose partition changes when the count goes from `old` to `new`."""
    moved = 0
    for number in range(keys):
        hashed = int(murmur2(str(number).encode())) & 0x7FFFFFFF
        moved += hashed % old != hashed % new
    return moved / keys
