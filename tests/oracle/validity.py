"""Which input records are events: strict JSON, then the shape of each event type. Anything else is an error record."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, NoReturn

from tests.oracle.records import TEAM_EVENTS, USER_EVENTS, Record

INT64 = range(-(2**63), 2**63)
DIGITS_MAX = 20
DEPTH_MAX = 254
FREE_BYTES, BYTES_MAX, SEPARATORS_MAX = 1 << 20, 16 << 20, 1_000_000
_HEX = "[0-9a-fA-F]"
_UUID = re.compile(f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}")
_UUID4 = re.compile(f"{_HEX}{{8}}-{_HEX}{{4}}-4{_HEX}{{3}}-[89abAB]{_HEX}{{3}}-{_HEX}{{12}}")

Json = Any
_FIELDS: dict[str, dict[str, tuple[str, ...]]] = {  # topic → type → data: names of ids, then names of texts
    USER_EVENTS: {
        "comment.created": ("user_id", "msg:text"),
        "user.followed": ("user_id", "followee_id"),
        "user.unfollowed": ("user_id", "followee_id"),
        "message.sent": ("user_id", "to", "msg:text"),
    },
    TEAM_EVENTS: {"team.joined": ("user_id", "team_id")},
}


class Invalid(ValueError):
    """The record is not an event; the message says why."""


class Event(NamedTuple):
    """A valid event. `user` and `msg_id` are lower-case text; `data` and `meta` are as parsed."""

    user: str
    msg_id: str
    type: str
    data: dict[str, Json]
    meta: Json


def as_event(record: Record) -> Event:
    """The event that `record` carries; raises Invalid."""
    if record.key is None or record.value is None:
        raise Invalid("null key" if record.key is None else "tombstone")
    try:
        key = record.key.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"key: {error}") from None
    event = strict_json(record.value)
    if not isinstance(event, dict):
        raise Invalid("not an object")
    msg_id, kind = event.get("msg_id"), event.get("type")
    if not isinstance(msg_id, str) or not _UUID4.fullmatch(msg_id):
        raise Invalid("msg_id is not a UUIDv4")
    if "meta" in event and not isinstance(event["meta"], dict):
        raise Invalid("meta is not an object")
    data = _data(record.topic, kind, event.get("data"))
    user = id_text(data["user_id"])
    if key.lower() != user:
        raise Invalid("key is not the user_id")
    return Event(user, msg_id.lower(), str(kind), data, event.get("meta"))


def _data(topic: str, kind: Json, data: Json) -> dict[str, Json]:
    fields = _FIELDS[topic].get(kind) if isinstance(kind, str) else None
    if fields is None:
        raise Invalid(f"unknown type {kind!r}")
    if not isinstance(data, dict):
        raise Invalid("data is not an object")
    for field in fields:
        name, _, text = field.partition(":")
        if not (isinstance(data.get(name), str) if text else is_id(data.get(name))):
            raise Invalid(f"data.{name} is missing or of a wrong type")
    return data


def strict_json(value: bytes) -> Json:
    """Parse one JSON document as UTF-8.

    Raises Invalid for anything RFC 8259 forbids and for what is ambiguous between parsers: duplicate names, NaN and
    infinities (also by overflow), integers beyond int64, lone surrogates, a byte order mark; and for what the
    documented limits leave out: nesting, size, number of parts.
    """
    if len(value) > FREE_BYTES and (len(value) > BYTES_MAX or _separators(value) > SEPARATORS_MAX):
        raise Invalid("too large")
    try:
        parsed = _STRICT.decode(value.decode())
        if b"\\u" in value:
            json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # ValueError: bad JSON, bad UTF-8, lone surrogates, our own refusals
        raise Invalid(str(error)) from None
    if _separators(value) > DEPTH_MAX and _depth(parsed) > DEPTH_MAX:
        raise Invalid("nested too deep")
    return parsed


def _separators(value: bytes) -> int:
    return value.count(b",") + value.count(b"[") + value.count(b"{")


def _depth(parsed: Json) -> int:
    depth, level = 0, [parsed]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


def is_id(value: Json) -> bool:
    """Whether `value` may be a user or team id: an integer (a bool is none) or a UUID in any case."""
    if isinstance(value, str):
        return _UUID.fullmatch(value) is not None
    return isinstance(value, int) and not isinstance(value, bool)


def id_text(value: int | str) -> str:
    """An id as it stands in keys: decimal digits, or the UUID in lower case."""
    return str(value).lower()


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Invalid("duplicate name")
    return found


def _int64(digits: str) -> int:
    if len(digits) > DIGITS_MAX or int(digits) not in INT64:
        raise Invalid("integer beyond int64")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise Invalid("number too large")
    return number


def _refuse(name: str) -> NoReturn:
    raise Invalid(f"{name} is not JSON")


_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_int64, parse_float=_finite, parse_constant=_refuse)
