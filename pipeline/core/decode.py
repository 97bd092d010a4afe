"""Steps 2 and 3 in part: bytes → candidates for deduplication, or rejections. Never an exception."""

from collections.abc import Iterable

from pipeline.core.agent import Definition
from pipeline.core.contract import Contract, Refused
from pipeline.core.event import ReadOnly
from pipeline.core.idempotence import content_digest, mark_key
from pipeline.core.outcome import Blocked, Candidate, Ignored, Rejected, Rejection
from pipeline.core.record import Record
from pipeline.core.strays import Strays
from pipeline.core.topic import Topic

new = tuple.__new__
"""Makes a named tuple in half the time of its constructor; this is the inner loop of a worker."""
TRACE_BYTES_MAX = 64
"""A W3C traceparent has 55 bytes; a longer one is not passed on."""
REJECTIONS_MAX = 100
"""Judging a bad record and explaining it takes up to 0.5 ms, a good one 5 µs, and nothing else runs meanwhile."""

Decided = Candidate | Rejected | Ignored | Blocked


class UnknownEventType(Exception):
    """An agent that is told to crash on types without a handler met one."""


def decode(
    records: Iterable[Record], topic: Topic, contract: Contract, agent: Definition, strays: Strays | None = None
) -> list[Decided]:
    """One decision a record, in order, up to the REJECTIONS_MAX-th rejection; the records behind it are for later.

    strays: of the topic in this unit. The one that is too many is the last decision: Blocked.
    """
    decided: list[Decided] = []
    rejections = 0
    checked = strays if strays is not None and strays.checks else None
    for record in records:
        one = _decode_one(record, topic, contract, agent, checked)
        decided.append(one)
        if type(one) is Rejected:
            rejections += 1
            if rejections == REJECTIONS_MAX:
                break
    return decided if checked is None or not rejections else checked.cut(decided)


def _decode_one(record: Record, topic: Topic, contract: Contract, agent: Definition, strays: Strays | None) -> Decided:
    decoded = contract.decode(record.value)
    if type(decoded) is Refused:
        if decoded.kind == "UnknownType":
            return _unknown(record, agent, Rejection(decoded.kind, decoded.message, decoded.explain))
        return Rejected(record, Rejection(decoded.kind, decoded.message, decoded.explain))
    type_, msg_id, data, meta, _ = decoded  # type: ignore[misc]  # narrowed by exact type, for speed
    handler = agent.handlers.get(type_)
    if handler is None:
        return _unknown(record, agent, Rejection("UnknownType", f"agent {agent.name} handles no {type_[:100]!r}"))
    field = topic.key
    if field is None:
        key = msg_id if record.key is None else _key_text(record.key)  # without a key it is alone: in no order (O4)
        if key is None:
            return Rejected(record, Rejection("BadKey", "the record key is not UTF-8 text"))
    else:
        owner = str(data.get(field))
        raw = record.key
        if raw != owner.encode() and (why := _another_key(raw, field, owner)) is not None:
            return Rejected(record, Rejection("BadKey", why))
        if strays is not None and strays.known(raw) != strays.partition and strays.is_stray(raw):  # type: ignore[arg-type]
            return Rejected(record, strays.rejection(raw))  # type: ignore[arg-type]  # None has been rejected above
        key = owner.lower()
    if "\0" in key:
        return Rejected(record, Rejection("BadKey", "the record key has a NUL"))
    event = new(handler.event_class, (
        msg_id, type_, key, ReadOnly(data), None if meta is None else ReadOnly(meta),
        record.topic, record.partition, record.offset, record.timestamp, _trace(record) if record.headers else None,
    ))  # fmt: skip
    return new(Candidate, (record, event, mark_key(key, msg_id), content_digest(type_, data)))


def _another_key(raw: bytes | None, field: str, owner: str) -> str | None:
    """Why a record key isn't the owner's; None when it only differs in case."""
    given = _key_text(raw)
    if given is None:
        return f"the record key is {'missing' if raw is None else 'not UTF-8'}; it must repeat data.{field}"
    if given.lower() != owner.lower():
        return f"the record key {given[:64]!r} is not data.{field} {owner[:64]!r}"
    return None


def _unknown(record: Record, agent: Definition, rejection: Rejection) -> Rejected | Ignored:
    if agent.unknown == "ignore":
        return Ignored(record)
    if agent.unknown == "crash":
        where = f"{record.topic}[{record.partition}]@{record.offset}"
        raise UnknownEventType(f"{where}: {rejection.message}; agent {agent.name} is told to crash on it")
    return Rejected(record, rejection)


def _key_text(key: bytes | None) -> str | None:
    if key is None:
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def _trace(record: Record) -> bytes | None:
    for name, value in record.headers:
        if name == "traceparent" and len(value or b"") <= TRACE_BYTES_MAX:
            return value
    return None
