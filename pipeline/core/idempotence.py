"""Marks: which messages of a key have been applied, and with what content.

A mark is a row of the unit's state: key `_marks NUL record key NUL msg_id`, value 8 bytes of time (ms, big endian:
when it was applied, or the record's time if that is later), 16 bytes of a hash of type + data, and the names of the
msg-id sets that it is a member of, by commas. A second copy with the same hash is a duplicate; with another hash it is
a conflict: the first one wins (D3).
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b, sha1
from uuid import UUID

import orjson

MARKS = b"_marks\x00"
_DIGEST_BYTES = 16
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def mark_key(key: str, msg_id: str) -> bytes:
    """Row key of the mark of `msg_id` (lower case) under the record key."""
    return MARKS + f"{key}\0{msg_id}".encode()


def content_digest(type_: str, data: Mapping[str, object]) -> bytes:
    """16 bytes that tell two bodies apart; the order of fields doesn't matter, `meta` doesn't count."""
    body = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    return blake2b(type_.encode() + b"\0" + body, digest_size=_DIGEST_BYTES).digest()


def mark_value(timestamp_ms: int, digest: bytes, sets: Sequence[str] = ()) -> bytes:
    """Value of a mark."""
    mark = max(timestamp_ms, 0).to_bytes(8, "big") + digest
    return mark + ",".join(sets).encode() if sets else mark


def mark_time_ms(mark: bytes) -> int:
    """The time of a mark, milliseconds since the epoch."""
    return int.from_bytes(mark[:8], "big")


def sets_of(mark: bytes) -> list[str]:
    """The msg-id sets that a mark's message is in."""
    names = mark[8 + _DIGEST_BYTES :].decode()
    return names.split(",") if names else []


def same_content(mark: bytes, digest: bytes) -> bool:
    """Whether a stored mark is of the same content."""
    return mark[8 : 8 + _DIGEST_BYTES] == digest


def derived_msg_id(msg_id: str, agent: str, output: str) -> str:
    """uuid5(msg_id, "<agent>/<output>"): the id of an output, the same in every redo (O3, D9).

    >>> derived_msg_id("8700635f-1802-417e-89e7-595ad3600104", "user-events", "comment-counted")
    'a8b05eba-ac1e-59f8-9d67-e8573bdb253c'
    """
    digest = sha1(
        bytes.fromhex(msg_id.replace("-", "")) + f"{agent}/{output}".encode(), usedforsecurity=False
    ).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{_VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"


def new_msg_id(random_bytes: bytes) -> str:
    """A UUIDv4 of 16 given random bytes."""
    return str(UUID(bytes=random_bytes, version=4))
