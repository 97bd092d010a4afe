"""The contract of the input, and the decoding by it that a careful peer does: what isn't valid raises ValueError."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import orjson

UUID4 = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$"
INT64_MAX = 2**63 - 1
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["msg_id", "type", "data"],
    "additionalProperties": False,
    "properties": {
        "msg_id": {"type": "string", "pattern": UUID4},
        "type": {"const": "comment.created"},
        "data": {
            "type": "object",
            "required": ["user_id", "msg"],
            "additionalProperties": False,
            "properties": {
                "user_id": {"type": "integer", "minimum": 1, "maximum": INT64_MAX},
                "msg": {"type": "string", "minLength": 1, "maxLength": 10_000},
            },
        },
    },
}
QUOTES = 16  # around the 5 keys and 3 texts of a valid event
is_valid = jsonschema_rs.validator_for(SCHEMA).is_valid


def decode(key: bytes, value: bytes) -> dict[str, Any]:
    """Bytes to a valid event under its own key."""
    event: dict[str, Any] = orjson.loads(value)
    if not is_valid(event) or type(event["data"]["user_id"]) is not int:
        raise ValueError("not a comment.created")
    # Without a backslash every quotation mark delimits a text: more marks than the event needs betray a repeated key.
    if value.count(b'"') != QUOTES or b"\\" in value:
        json.loads(value, object_pairs_hook=_without_repeated_keys)
    if key != b"%d" % event["data"]["user_id"]:
        raise ValueError("key is not the user's")
    return event


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("repeated key")
    return members
