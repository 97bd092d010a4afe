"""Whether it adds up: what must have come out beside what did, by content and not by number alone."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pipeline.demo.count import Came, Count, Place
from pipeline.demo.readback import Found

MARK = b"_marks\x00"


class Row(NamedTuple):
    """One line of the table. wanted, found: numbers. trouble: what is wrong, "" when nothing is. note: more to know."""

    name: str
    wanted: int
    found: int
    trouble: str
    note: str = ""


def judge(must: Count, did: Found, sent: int) -> list[Row]:
    """The table; it adds up when no row has trouble. sent: how many records the broker has confirmed."""
    applied, errors = _marks(did.changelog), _errors(did.errors)
    conflicts = _conflicts(did.audits)
    duplicates = must.records - len(applied) - len(errors)
    rows = [
        Row("in", sent, must.records, _unequal(sent, must.records), "confirmed by the broker; read back"),
        Row("applied", len(must.applied), len(applied), _sets(must.applied, applied), "each msg_id once"),
        Row(
            "duplicates",
            must.duplicates,
            duplicates,
            _unequal(must.duplicates, duplicates),
            "neither applied nor wrong",
        ),
        Row(
            "· conflicts",
            len(must.conflicts),
            len(conflicts),
            _sets(must.conflicts, conflicts),
            "same id, other content",
        ),
        Row("errors", len(must.errors), len(errors), _error_trouble(must.errors, errors), "byte for byte"),
    ]
    for topic, records in did.outputs.items():
        rows.append(_output(topic, must, records))
    rows.append(_table("SQL comment_counts", must.comment_counts, did.comment_counts))
    rows.append(_table("SQL messages", must.messages, did.messages))
    return rows


def _output(topic: str, must: Count, records: list[Came]) -> Row:
    """First occurrences are compared; a repeat must be the same event again, and is only noted."""
    wanted = {event.msg_id: (event.key, event.type, event.data) for event in must.outputs[topic]}
    found: dict[str, Any] = {}
    order: dict[str, list[str]] = defaultdict(list)
    for record in records:
        event = json.loads(record.value or b"{}")
        key, msg_id = (record.key or b"").decode(errors="replace"), str(event.get("msg_id"))
        said = (key, event.get("type"), event.get("data"))
        if msg_id not in found:
            found[msg_id] = said
            order[key].append(msg_id)
        elif found[msg_id] != said:
            return Row(f"out: {topic}", len(wanted), len(found), f"{msg_id} came twice, with different contents")
    trouble = _mappings(wanted, found)
    note = "each msg_id once"
    if topic != "notifications":  # those to one user come from many users, whose order is nobody's promise
        note += ", in order per user"
        by_key: dict[str, list[str]] = defaultdict(list)
        for expected in must.outputs[topic]:
            by_key[expected.key].append(expected.msg_id)
        trouble = trouble or _first(f"user {key}: out of order" for key in by_key if by_key[key] != order[key])
    if repeats := len(records) - len(found):
        note += f"; {repeats} sent again under the same msg_id"
    return Row(f"out: {topic}", len(wanted), len(found), trouble, note)


def _marks(changelog: Iterable[Came]) -> set[tuple[str, str]]:
    """(user, msg_id) of every applied event, as the state's changelog has it."""
    last = {record.key: record.value for record in changelog if record.key and record.key.startswith(MARK)}
    found = set()
    for key, value in last.items():
        if value is not None:
            user, _, msg_id = key.removeprefix(MARK).decode().partition("\0")
            found.add((user, msg_id))
    return found


def _errors(records: Iterable[Came]) -> dict[Place, list[Came]]:
    """Error records by the place of the record that they are about."""
    found: dict[Place, list[Came]] = defaultdict(list)
    for record in records:
        said = {name: value.decode(errors="replace") for name, value in record.headers}
        topic, partition = said.get("hp-source-topic", "?"), said.get("hp-source-partition", "-1")
        found[topic, int(partition), int(said.get("hp-source-offset", "-1"))].append(record)
    return found


def _conflicts(audits: Iterable[Came]) -> set[Place]:
    bodies = [json.loads(record.value or b"{}") for record in audits]
    return {(one["topic"], one["partition"], one["offset"]) for one in bodies if one["kind"] == "conflict"}


def _error_trouble(wanted: Mapping[Place, Came], found: Mapping[Place, list[Came]]) -> str:
    return _sets(set(wanted), set(found)) or _first(
        f"{_shown(place)} is not the record that was sent"
        for place, record in wanted.items()
        if any((one.key, one.value) != (record.key, record.value) for one in found[place])
    )


def _table(name: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Row:
    return Row(name, len(wanted), len(found), _mappings(wanted, found), "every row")


def _mappings(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    return _sets(set(wanted), set(found)) or _first(
        f"{key} is {found[key]!r} instead of {wanted[key]!r}" for key in wanted if wanted[key] != found[key]
    )


def _sets(wanted: set[Any], found: set[Any]) -> str:
    return _one_of("missing", wanted - found) or _one_of("too many", found - wanted)


def _one_of(what: str, those: set[Any]) -> str:
    return f"{len(those)} {what}, such as {_shown(min(those))}" if those else ""


def _unequal(wanted: int, found: int) -> str:
    return "" if wanted == found else f"{found - wanted:+}"


def _first(troubles: Iterable[str]) -> str:
    return next(iter(troubles), "")


def _shown(one: Any) -> str:
    return " ".join(map(str, one)) if isinstance(one, tuple) else str(one)
