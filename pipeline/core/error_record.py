"""Error and audit records: the original bytes, and headers that say what happened (E1, E10)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha1, sha256

import orjson

from pipeline.core.event_time import EVENT_TIME
from pipeline.core.outcome import Rejection
from pipeline.core.record import Outbound, Record

PREFIX = "hp-"
MESSAGE = "hp-error-message"
KEPT = ("hp-replay-id", "hp-replay-count", EVENT_TIME)
TEXT_CHARS_MAX = 4000
KIND_CHARS_MAX = 100
"""Of the kind of an audit record."""
SHORT_BYTES_MAX = 400
"""Of each text but the message when there is no room: a topic's name, which has 249 at most, stays whole."""
CUT = "…".encode()
RECORD_BYTES_FLOOR = 10_000
"""Every error record can be made to fit this: see `bounded`."""
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_VOLATILE = re.compile(r"'[^']*'|\"[^\"]*\"|\b[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}\b|\b0x[0-9a-fA-F]+\b|\d+")


@dataclass(frozen=True, slots=True)
class Failing:
    """Who failed on the record: consumer group, agent, application version and the contract that was applied."""

    group: str
    agent: str
    app_version: str
    contract: str


def fingerprint(error_class: str, message: str, agent: str) -> str:
    """16 hex digits, equal for failures that differ only in numbers, ids and quoted text (E8).

    >>> fingerprint("Reject", "user 12 unknown", "a") == fingerprint("Reject", "user 34 unknown", "a")
    True
    """
    return sha1(
        f"{error_class}\0{_VOLATILE.sub('#', message)}\0{agent}".encode(errors="replace"), usedforsecurity=False
    ).hexdigest()[:16]


def error_record(
    record: Record,
    rejection: Rejection,
    failing: Failing,
    topic: str,
    now_ms: int,
    record_bytes_max: int,
    attempts: int = 1,
    first_failed_ms: int | None = None,
) -> Outbound:
    """The record for the error topic: key, value and headers byte for byte, our headers replaced, not appended.

    Its time is now: the topic keeps it for as long as others, however old the record is. What is too large goes without
    the stack, then without the explanation; then it is replaced by JSON with its hash, size and place.
    """
    kept = dict.fromkeys(KEPT)
    headers: list[tuple[str, bytes]] = []
    for name, value in record.headers:
        if name in kept:
            kept[name] = value
        elif not name.startswith(PREFIX):
            headers.append((name, value))
    texts = {
        **_source(record),
        "hp-source-group": failing.group,
        "hp-error-class": rejection.error_class,
        MESSAGE: rejection.message,
        "hp-error-fingerprint": fingerprint(rejection.error_class, rejection.message, failing.agent),
        "hp-error-stack": rejection.stack,
        "hp-error-explain": "\n".join(rejection.explain),
        "hp-attempts": str(attempts),
        "hp-first-failed-at": str(first_failed_ms if first_failed_ms is not None else now_ms),
        "hp-last-failed-at": str(now_ms),
        "hp-agent": failing.agent,
        "hp-app-version": failing.app_version,
        "hp-contract": failing.contract,
    }
    ours = {name: text(value).encode() for name, value in texts.items()}
    ours |= {name: value for name, value in kept.items() if value is not None}
    for less in _less(ours):
        outbound = Outbound(topic, None, now_ms, record.key, record.value, headers + list(less.items()))
        if outbound.size_bytes() <= record_bytes_max:
            return outbound
    return bounded(outbound, record, ours, record_bytes_max)


def bounded(outbound: Outbound, record: Record, ours: dict[str, bytes], record_bytes_max: int) -> Outbound:
    """The same error record without what doesn't fit: a hash, sizes and the place instead of the record.

    Whatever was said of the error, it fits RECORD_BYTES_FLOOR: a key, texts and the message are cut as far as needed.
    """
    value, key = record.value or b"", record.key or b""
    summary = {
        "sha256": sha256(value).hexdigest(),
        "value_bytes": len(value),
        "key_bytes": len(key),
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
    }
    omitted = ("hp-omitted", b"value")
    short_key = record.key if len(key) <= TEXT_CHARS_MAX else None
    outbound = outbound._replace(key=short_key, value=orjson.dumps(summary))
    for less in _less(ours):
        outbound = outbound._replace(headers=[*less.items(), omitted])
        if outbound.size_bytes() <= record_bytes_max:
            return outbound
    short = {
        name: content if name == MESSAGE else _cut(content, SHORT_BYTES_MAX)
        for name, content in less.items()
        if name not in KEPT or len(content) <= SHORT_BYTES_MAX
    }
    outbound = outbound._replace(headers=[*short.items(), omitted])
    if outbound.size_bytes() > record_bytes_max:
        outbound = outbound._replace(key=None)
    too_many = outbound.size_bytes() - record_bytes_max
    if too_many > 0:
        short[MESSAGE] = _cut(short[MESSAGE], max(len(short[MESSAGE]) - too_many, 0))
    return outbound._replace(headers=[*short.items(), omitted])


def _less(ours: dict[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Our headers as they are, then without what can be missed: the stack, then the explanation."""
    yield ours
    for name in ("hp-error-stack", "hp-error-explain"):
        if ours[name]:
            ours = {**ours, name: CUT}
            yield ours


def _cut(content: bytes, bytes_max: int) -> bytes:
    """UTF-8 text of at most so many bytes, a sign at its end if it is cut; nothing where not even that fits."""
    if len(content) <= bytes_max:
        return content
    room = bytes_max - len(CUT)
    return content[:room].decode(errors="ignore").encode() + CUT if room >= 0 else b""


def audit_record(
    topic: str,
    kind: str,
    record: Record,
    failing: Failing,
    fields: dict[str, str],
    now_ms: int,
    record_bytes_max: int | None = None,
) -> Outbound:
    """A record for the audit topic: JSON that names what happened and to which record.

    Without the key where the topic wouldn't take it, then without fields: it says where the record is, and that mustn't
    wait.
    """
    kind = text(kind)[:KIND_CHARS_MAX]
    body = {
        "kind": kind,
        "agent": failing.agent,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "at_ms": now_ms,
    }
    headers = {**_source(record), "hp-source-group": failing.group, "hp-agent": failing.agent, "hp-audit-kind": kind}
    encoded = [(name, value.encode()) for name, value in headers.items()]
    said = {text(name): text(value) for name, value in fields.items()}
    outbound = Outbound(topic, None, now_ms, record.key, orjson.dumps({**body, **said}), encoded)
    if record_bytes_max is None or outbound.size_bytes() <= record_bytes_max:
        return outbound
    outbound = outbound._replace(key=None)
    while outbound.size_bytes() > record_bytes_max and said:
        del said[max(said, key=lambda name: len(said[name].encode()) + len(name.encode()))]
        outbound = outbound._replace(value=orjson.dumps({**body, **said, "omitted": len(fields) - len(said)}))
    return outbound


def _source(record: Record) -> dict[str, str]:
    return {
        "hp-source-topic": record.topic,
        "hp-source-partition": str(record.partition),
        "hp-source-offset": str(record.offset),
        "hp-source-timestamp": str(record.timestamp),
    }


def text(value: str) -> str:
    """`value` as harmless, bounded UTF-8: no control characters but newline and tab, no lone surrogates."""
    short = value if len(value) <= TEXT_CHARS_MAX else value[:TEXT_CHARS_MAX] + CUT.decode()
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found.group()):02x}", short)
