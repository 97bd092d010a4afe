"""What must come out, computed from the input topics: partition by partition, in offset order, with plain dicts."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from tests.oracle.chain import Chain
from tests.oracle.records import (
    AGENT,
    COMMENT_COUNTS,
    MESSAGES,
    NOTIFICATIONS,
    OUTPUTS,
    TEAM_EVENTS,
    USER_EVENTS,
    Log,
    Place,
    Record,
    place,
)
from tests.oracle.validity import Event, Invalid, as_event, id_text

REFUSAL = "not following"
FREE_FIELDS = ("text", "email")
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


class AmbiguousInput(ValueError):
    """The input allows more than one right answer, so it cannot be judged: the test's mistake."""


class Output(NamedTuple):
    """One record that must stand in an output topic. `body` is canonical (see `canonical_body`)."""

    key: bytes
    msg_id: str
    body: bytes
    source: Place
    refusal: bool = False


class Row(NamedTuple):
    """A row of state: `value` None when any value will do."""

    value: bytes | None


@dataclass
class Tally:
    """What became of the input records of one partition (all sources together)."""

    inputs: int = 0
    applied: int = 0
    duplicates: int = 0
    errors: int = 0


@dataclass
class Expected:
    """What a right run leaves.

    outputs: topic → msg_id → output, in an order that holds within each (key, source partition).
    errors: the rejected inputs by place; reasons: why, and how often. rows: partition → raw row key → value.
    conflicts: places of inputs whose msg_id was seen with another body. tallies: partition → what became of its
    inputs (conflicts are duplicates).
    """

    outputs: dict[str, dict[str, Output]] = field(default_factory=lambda: {topic: {} for topic in OUTPUTS})
    errors: dict[Place, Record] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    rows: dict[int, dict[bytes, Row]] = field(default_factory=dict)
    conflicts: list[Place] = field(default_factory=list)
    tallies: dict[int, Tally] = field(default_factory=lambda: defaultdict(Tally))

    def counts(self) -> dict[str, int]:
        """Comments per user."""
        prefix = b"comments\x00"
        return {
            key[len(prefix) :].decode(): int(row.value or b"0")
            for rows in self.rows.values()
            for key, row in rows.items()
            if key.startswith(prefix)
        }

    def chain(self, topic: str) -> Chain:
        """The hash chain of each key of an output topic, for a quick comparison."""
        chain = Chain()
        for output in self.outputs[topic].values():
            chain.add(output.key, output.msg_id, output.body)
        return chain


def fold(inputs: Mapping[str, Log]) -> Expected:
    """Fold the whole input topics (name → log). Raises AmbiguousInput when one msg_id serves two users or topics."""
    expected = Expected()
    owners: dict[str, tuple[str, str]] = {}
    for topic in (USER_EVENTS, TEAM_EVENTS):
        for partition, records in sorted(inputs.get(topic, {}).items()):
            unit = _Unit(expected, expected.rows.setdefault(partition, {}))
            tally = expected.tallies[partition]
            for record in records:
                tally.inputs += 1
                try:
                    event = as_event(record)
                except Invalid as reason:
                    tally.errors += 1
                    expected.errors[place(record)] = record
                    expected.reasons[str(reason)] += 1
                    continue
                if owners.setdefault(event.msg_id, (topic, event.user)) != (topic, event.user):
                    raise AmbiguousInput(f"{place(record)}: msg_id {event.msg_id} serves two users or topics")
                if unit.is_duplicate(event, place(record)):
                    tally.duplicates += 1
                else:
                    tally.applied += 1
                    unit.apply(event, place(record))
    return expected


class _Unit:
    """The state of one partition, and what its events do."""

    def __init__(self, expected: Expected, rows: dict[bytes, Row]) -> None:
        self.expected = expected
        self.rows = rows
        self.seen: dict[str, bytes] = {}
        self.comments: Counter[str] = Counter()

    def is_duplicate(self, event: Event, source: Place) -> bool:
        body = _CANONICAL.encode([event.type, event.data]).encode()
        digest = blake2b(body, digest_size=16).digest()
        first = self.seen.get(event.msg_id)
        if first is None:
            self.seen[event.msg_id] = digest
            return False
        if first != digest:
            self.expected.conflicts.append(source)
        return True

    def apply(self, event: Event, source: Place) -> None:
        user, data = event.user, event.data
        self.rows[row_key("_marks", user, event.msg_id)] = Row(None)
        match event.type:
            case "comment.created":
                self.comments[user] += 1
                count = self.comments[user]
                self.rows[row_key("comments", user)] = Row(str(count).encode())
                self._emit(COMMENT_COUNTS, "comment-counted", event, source, user, user_id=data["user_id"], count=count)
            case "user.followed":
                self.rows[row_key("follows", user, id_text(data["followee_id"]))] = Row(b"1")
                self._notify(event, source, data["followee_id"])
            case "user.unfollowed":
                self.rows.pop(row_key("follows", user, id_text(data["followee_id"])), None)
            case "message.sent" if row_key("follows", user, id_text(data["to"])) in self.rows:
                passed_on = {name: data[name] for name in ("user_id", "to", "msg")}
                self._emit(MESSAGES, "message-accepted", event, source, user, **passed_on)
            case "message.sent":
                self._notify(event, source, data["user_id"], refusal=True)
            case "team.joined":
                self._notify(event, source, data["user_id"])

    def _notify(self, event: Event, source: Place, recipient: int | str, refusal: bool = False) -> None:
        key = id_text(recipient)
        self._emit(NOTIFICATIONS, "notification-requested", event, source, key, refusal=refusal, user_id=recipient)

    def _emit(
        self, topic: str, name: str, event: Event, source: Place, key: str, *, refusal: bool = False, **data: Any
    ) -> None:
        msg_id = derived_id(event.msg_id, name)
        body = canonical_body(name.replace("-", ".", 1), data, event.meta)
        self.expected.outputs[topic][msg_id] = Output(key.encode(), msg_id, body, source, refusal)


def derived_id(msg_id: str, name: str) -> str:
    """The msg_id of the output `name` of the input event `msg_id`: a redo gives the same one."""
    return str(uuid5(UUID(msg_id), f"{AGENT}/{name}"))


def row_key(*parts: str) -> bytes:
    """A raw row key: the parts joined by NUL."""
    return "\x00".join(parts).encode()


def canonical_body(kind: str, data: Mapping[str, Any], meta: Any) -> bytes:
    """What two outputs must have in common: type, data and meta, with ids in lower case and free texts left out."""
    judged = {
        name: id_text(value) if name in ("user_id", "to") and isinstance(value, str) else value
        for name, value in data.items()
        if name not in FREE_FIELDS
    }
    return _CANONICAL.encode([kind, judged, meta]).encode()
