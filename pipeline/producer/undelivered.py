"""Messages that were refused for good, as rows of the spill: what it was, why, how often it was tried, when."""

import json

from pipeline.producer.codec import decode, encode
from pipeline.producer.message import Letter, Undelivered
from pipeline.producer.rows import LaneId


def to_row(message: Letter, refused: Undelivered) -> tuple[bytes, bytes]:
    """(id, row)."""
    about = {
        "topic": refused.topic,
        "partition": refused.partition,
        "error": refused.error,
        "code": refused.code,
        "reason": refused.reason,
        "attempts": refused.attempts,
        "at_ms": refused.at_ms,
    }
    return refused.id.encode(), json.dumps(about).encode() + b"\n" + encode([message])


def from_row(id_: bytes, row: bytes) -> Undelivered:
    """What `to_row` wrote."""
    line, _, rest = row.partition(b"\n")
    about, (message,) = json.loads(line), decode(rest)
    return Undelivered(
        id_.decode(), key=message.key, value=message.value, headers=message.headers,
        timestamp_ms=message.timestamp_ms, **about,
    )  # fmt: skip


def id_of(lane: LaneId, sequence: int, message: Letter) -> str:
    """The same for the same message, also when a crash makes it be refused twice; a lane's ids sort as its messages."""
    partition = "" if lane.partition is None else str(lane.partition)
    return f"{lane.topic}-{partition}-{sequence:012d}-{message.timestamp_ms}"
