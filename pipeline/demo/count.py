"""The independent count: what must come out, computed from the input topics alone.

It shares no code with the engine: another parser, another validation, another fold, the ids from `uuid.uuid5`. It knows
the contracts of this application's inputs and the documented meaning of its events, and nothing else.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn
from uuid import UUID, uuid5

Place = tuple[str, int, int]
"""Topic, partition, offset."""


class Came(NamedTuple):
    """A record as it lies on a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def place(self) -> Place:
        """Where."""
        return self.topic, self.partition, self.offset


class Out(NamedTuple):
    """An event that must come out: its id, key, type and data."""

    msg_id: str
    key: str
    type: str
    data: dict[str, Any]


@dataclass
class Count:
    """What must come out. outputs: topic → events in the order of the input of their partition."""

    records: int = 0
    applied: set[tuple[str, str]] = field(default_factory=set)
    duplicates: int = 0
    conflicts: set[Place] = field(default_factory=set)
    errors: dict[Place, Came] = field(default_factory=dict)
    outputs: dict[str, list[Out]] = field(default_factory=lambda: defaultdict(list))
    comment_counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    messages: dict[str, tuple[str, str, str]] = field(default_factory=dict)


def count(records: Iterable[Came]) -> Count:
    """The count of the input; records of a topic-partition in the order of their offsets."""
    found, content, follows = Count(), dict[tuple[str, str], str](), set[tuple[str, str]]()
    for record in records:
        found.records += 1
        event = _event(record)
        if event is None:
            found.errors[record.place] = record
            continue
        user, kind, data = str(event["data"]["user_id"]).lower(), event["type"], event["data"]
        mark = (user, event["msg_id"].lower())
        said = json.dumps([kind, data], sort_keys=True)
        if mark in content:
            found.duplicates += 1
            if content[mark] != said:
                found.conflicts.add(record.place)
            continue
        content[mark] = said
        found.applied.add(mark)
        _apply(found, follows, mark, kind, data)
    return found


def _apply(found: Count, follows: set[tuple[str, str]], mark: tuple[str, str], kind: str, data: dict[str, Any]) -> None:
    user, msg_id = mark
    if kind == "comment.created":
        found.comment_counts[user] += 1
        _out(
            found,
            "comment-counts",
            msg_id,
            "comment.counted",
            user_id=data["user_id"],
            count=found.comment_counts[user],
        )
    elif kind == "user.followed":
        follows.add((user, _lower(data["followee_id"])))
        _notify(found, msg_id, data["followee_id"], f"user {data['user_id']} follows you")
    elif kind == "user.unfollowed":
        follows.discard((user, _lower(data["followee_id"])))
    elif kind == "team.joined":
        _notify(found, msg_id, data["user_id"], f"you joined team {data['team_id']}")
    elif (user, _lower(data["to"])) in follows:
        derived = _out(
            found, "messages", msg_id, "message.accepted", user_id=data["user_id"], to=data["to"], msg=data["msg"]
        )
        found.messages[derived] = (user, _lower(data["to"]), data["msg"])
    else:
        _notify(found, msg_id, data["user_id"], f"message to {data['to']} refused: not following")


def _notify(found: Count, msg_id: str, whom: int | str, text: str) -> None:
    _out(found, "notifications", msg_id, "notification.requested", user_id=whom, text=text)


def _out(found: Count, topic: str, msg_id: str, kind: str, /, **data: Any) -> str:
    derived = str(uuid5(UUID(msg_id), f"user-events/{kind.replace('.', '-')}"))
    found.outputs[topic].append(Out(derived, str(data["user_id"]), kind, data))
    return derived


# ---------------------------------------------------------------------------------------------- what a good record is

_V4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


def _is_id(value: Any) -> bool:
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_FIELDS = {
    ("user-events", "comment.created"): {"user_id": _is_id, "msg": _is_text},
    ("user-events", "user.followed"): {"user_id": _is_id, "followee_id": _is_id},
    ("user-events", "user.unfollowed"): {"user_id": _is_id, "followee_id": _is_id},
    ("user-events", "message.sent"): {"user_id": _is_id, "to": _is_id, "msg": _is_text},
    ("team-events", "team.joined"): {"user_id": _is_id, "team_id": _is_id},
}


def _event(record: Came) -> dict[str, Any] | None:
    """The event, or None when the record must go to the error topic."""
    try:
        event = json.loads((record.value or b"").decode(), object_pairs_hook=_no_twins, parse_constant=_no_constant)
        key = (record.key or b"").decode().lower()
    except ValueError:
        return None
    if not isinstance(event, dict) or not isinstance(event.get("meta", {}), dict):
        return None
    kind, msg_id, data = event.get("type"), event.get("msg_id"), event.get("data")
    fields = _FIELDS.get((record.topic, kind)) if isinstance(kind, str) else None
    if fields is None or not isinstance(data, dict) or not isinstance(msg_id, str) or not _V4.fullmatch(msg_id):
        return None
    if not all(name in data and fits(data[name]) for name, fits in fields.items()):
        return None
    return event if str(data["user_id"]).lower() == key else None


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _lower(value: int | str) -> str:
    return str(value).lower()
