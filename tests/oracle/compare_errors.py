"""The error topic against the rejected inputs: one for each, told apart by coordinates, original bytes untouched."""

from __future__ import annotations

import json
from hashlib import sha256

from tests.oracle.fold import Expected
from tests.oracle.records import SOURCES, Headers, Log, Place, Record, place
from tests.oracle.report import Report

OUR_HEADERS = "hp-"
OMITTED = ("hp-omitted", b"value")
CARRIED_BYTES_MIN = 850_000
"""Key, value and headers up to here fit into an error record with room for our own headers."""
KEY_CHARS_KEPT = 4_000


def judge_errors(report: Report, expected: Expected, log: Log) -> set[Place]:
    """Note what differs; the places of the inputs that have an error record.

    Error records of topics that are not inputs of the judged agent are counted only. Physical duplicates must agree in
    key and value; our own headers may differ (they tell attempts and times).
    """
    seen: dict[Place, Record] = {}
    for records in log.values():
        for record in records:
            source = source_of(record.headers)
            if source is None:
                report.differs("error record without coordinates", place(record), f"{record.headers!r:.300}")
            elif source.topic not in SOURCES:
                report.figures["error records of other topics"] += 1
            elif source in seen:
                report.figures["error records: physical duplicates"] += 1
                if (seen[source].key, seen[source].value) != (record.key, record.value):
                    report.differs("duplicate that differs", place(record), f"from {place(seen[source])}")
            else:
                seen[source] = record
                _judge_first(report, expected, source, record)
    for source in expected.errors.keys() - seen.keys():
        report.differs("missing error record", source, f"{expected.errors[source].value!r:.100}")
    report.figures["error records"] = len(seen)
    return set(seen)


def source_of(headers: Headers) -> Place | None:
    """Where the original stands; None unless each coordinate is there exactly once and well formed."""
    found = []
    for name in ("hp-source-topic", "hp-source-partition", "hp-source-offset"):
        values = [value for header, value in headers if header == name]
        if len(values) != 1 or values[0] is None:
            return None
        found.append(values[0])
    try:
        return Place(found[0].decode(), int(found[1]), int(found[2]))
    except ValueError:
        return None


def _judge_first(report: Report, expected: Expected, source: Place, record: Record) -> None:
    original = expected.errors.get(source)
    if original is None:
        report.differs("error record without a rejected input", place(record), f"of {source}")
        return
    if OMITTED in record.headers:
        report.figures["error records: bounded"] += 1
        _judge_bounded(report, original, record)
        return
    if (record.key, record.value) != (original.key, original.value):
        report.differs("error record with other bytes", place(record), f"of {source}")
    if _foreign(record.headers) != _foreign(original.headers):
        report.differs("error record with other headers", place(record), f"of {source}")


def _judge_bounded(report: Report, original: Record, record: Record) -> None:
    """A hash, sizes and the place instead of a record that doesn't fit."""
    key, value = original.key or b"", original.value or b""
    summary = {"sha256": sha256(value).hexdigest(), "value_bytes": len(value), "key_bytes": len(key)}
    summary |= {"topic": original.topic, "partition": original.partition, "offset": original.offset}
    size = len(key) + len(value) + sum(len(name) + len(header or b"") for name, header in original.headers)
    if size < CARRIED_BYTES_MIN:
        report.differs("error record bounded without need", place(record), f"of {place(original)}")
    if json.loads(record.value or b"null") != summary:
        report.differs("error record with another summary", place(record), f"of {place(original)}")
    if record.key != (original.key if len(key) <= KEY_CHARS_KEPT else None):
        report.differs("bounded error record with another key", place(record), f"of {place(original)}")


def _foreign(headers: Headers) -> list[tuple[str, bytes | None]]:
    """The headers that are not ours; a spoofed one of ours is replaced, so it cannot be asked for."""
    return [header for header in headers if not header[0].startswith(OUR_HEADERS)]
