"""Error and audit records: the original bytes, and headers that say what happened (E1, E10)."""

import re
from dataclasses import dataclass
from hashlib import sha1, sha256

import orjson

from pipeline.core.outcome import Rejection
from pipeline.core.record import Outbound, Record

PREFIX = "hp-"
KEPT = ("hp-replay-id", "hp-replay-count")
TEXT_CHARS_MAX = 4000
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

    A record too large to carry is replaced by a bounded one: JSON with its hash, size and place.
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
        "hp-error-message": rejection.message,
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
    ours = [(name, text(value).encode()) for name, value in texts.items()]
    ours += [(name, value) for name, value in kept.items() if value is not None]
    outbound = Outbound(topic, None, record.timestamp, record.key, record.value, headers + ours)
    if outbound.size_bytes() <= record_bytes_max:
        return outbound
    return bounded(outbound, record, ours)


def bounded(outbound: Outbound, record: Record, ours: list[tuple[str, bytes]]) -> Outbound:
    """The same error record without what doesn't fit: a hash, sizes and the place instead."""
    value, key = record.value or b"", record.key or b""
    summary = {
        "sha256": sha256(value).hexdigest(),
        "value_bytes": len(value),
        "key_bytes": len(key),
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
    }
    short_key = record.key if len(key) <= TEXT_CHARS_MAX else None
    return outbound._replace(key=short_key, value=orjson.dumps(summary), headers=[*ours, ("hp-omitted", b"value")])


def audit_record(
    topic: str, kind: str, record: Record, failing: Failing, fields: dict[str, str], now_ms: int
) -> Outbound:
    """A record for the audit topic: JSON that names what happened and to which record."""
    body = {
        "kind": text(kind),
        "agent": failing.agent,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "at_ms": now_ms,
        **{text(name): text(value) for name, value in fields.items()},
    }
    headers = {
        **_source(record),
        "hp-source-group": failing.group,
        "hp-agent": failing.agent,
        "hp-audit-kind": text(kind),
    }
    encoded = [(name, value.encode()) for name, value in headers.items()]
    return Outbound(topic, None, record.timestamp, record.key, orjson.dumps(body), encoded)


def _source(record: Record) -> dict[str, str]:
    return {
        "hp-source-topic": record.topic,
        "hp-source-partition": str(record.partition),
        "hp-source-offset": str(record.offset),
        "hp-source-timestamp": str(record.timestamp),
    }


def text(value: str) -> str:
    """`value` as harmless, bounded UTF-8: no control characters but newline and tab, no lone surrogates."""
    short = value if len(value) <= TEXT_CHARS_MAX else value[:TEXT_CHARS_MAX] + "…"
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found.group()):02x}", short)
