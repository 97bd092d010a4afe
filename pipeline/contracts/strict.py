"""Bytes → one JSON value, refusing whatever two parsers could read differently (C1).

Fast way: orjson parses, orjson writes the value again. When both texts are the same but for white space, the text had
no duplicate keys and no integer that turned into a float. Why that holds although white space inside strings is dropped
too: valid JSON keeps its tokens without white space, so both texts have the same numbers and equally many keys; the
second one was written from dicts, whose keys differ; a key lost in parsing would be missing there.

Everything else (escapes that orjson writes otherwise, unusual number formats) goes the strict way through the standard
library's parser, which shows each key and integer to us.
"""

import json
from typing import Any, NamedTuple, NoReturn

import jsonschema_rs
import orjson

from pipeline.contracts.shown import shown_text
from pipeline.core.errors import HardpartsError

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
INT64_CHARS_MAX = 20  # a sign and 19 digits; JSON has no leading zeros
_WHITE_SPACE = b" \t\r\n"

# Parsing keeps the event loop from everything else, and a compressed record may be a thousand times as large as what
# the broker took. Measured: 16 MiB of text take 0.1 s, a million of the smallest values up to 0.7 s.
VALUE_BYTES_MAX = 16 << 20
SEPARATORS_MAX = 1_000_000
_FREE_BYTES = 1 << 20  # has too few separators to be worth counting

# No float with an integer's value, no integer beyond int64. The fast validator follows 2020-12, where 1.0 is an integer
# that an exact contract refuses; draft 4 is the last version where it isn't one, and can tell such values apart.
is_exact = jsonschema_rs.Draft4Validator(
    {
        "anyOf": [
            {"type": ["integer", "string", "boolean", "null", "object", "array"]},
            {"type": "number", "not": {"multipleOf": 1}},
        ],
        "maximum": INT64_MAX,
        "additionalProperties": {"$ref": "#"},
        "items": {"$ref": "#"},
    }
).is_valid


class Malformed(HardpartsError):
    """The bytes aren't one unambiguous JSON value; the message is one short line."""

    error_class = "MalformedJson"


class TooLarge(Malformed):
    """The bytes aren't even read: they would keep the event loop for too long."""

    error_class = "TooLarge"


class Parsed(NamedTuple):
    """exact: no float in `value` has an integer's value, so that 1.0 can't pass for 1."""

    value: Any
    exact: bool


def parse(raw: bytes) -> Parsed:
    """The JSON value of `raw`, nested at most 254 deep (what orjson can write again).

    Raises Malformed, and nothing else, for any bytes; TooLarge, unread, for what would take a second to parse.
    """
    if len(raw) > _FREE_BYTES:
        _require_affordable(raw)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error}") from None
    try:
        text = orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise Malformed("nested too deep: at most 254 levels") from None
    same = text == raw or text.translate(None, _WHITE_SPACE) == raw.translate(None, _WHITE_SPACE)
    if same and is_exact(value):
        return tuple.__new__(Parsed, (value, True))  # half the time of Parsed(…)
    value = _STRICT.decode(raw.decode())
    return Parsed(value, is_exact(value))


def _require_affordable(raw: bytes) -> None:
    if len(raw) > VALUE_BYTES_MAX:
        raise TooLarge(f"a value of {len(raw)} bytes: at most {VALUE_BYTES_MAX}")
    separators = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    if separators > SEPARATORS_MAX:
        raise TooLarge(f"a value with {separators} commas and opening brackets: at most {SEPARATORS_MAX}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Malformed(f"duplicate key {shown_text(key)}")
            seen.add(key)
    return found


def _int64(digits: str) -> int:
    # The length goes first: converting thousands of digits takes quadratic time.
    if len(digits) <= INT64_CHARS_MAX and INT64_MIN <= (number := int(digits)) <= INT64_MAX:
        return number
    raise Malformed(f"integer beyond 64 bits: {shown_text(digits, quoted=False)}")


def _not_json(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON")


# Invalid UTF-8, control characters, lone surrogates and infinite floats never get here: orjson has refused them.
_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_int64, parse_constant=_not_json)
