"""Values as they may enter a message: shortened, one line, nothing a terminal or a log would obey."""

import json
from typing import Any

import orjson

VALUE_CHARS_MAX = 80
_CUT = "…"


def shown(value: Any, chars_max: int = VALUE_CHARS_MAX) -> str:
    """`value` as compact JSON of at most `chars_max` characters, non-printable ones escaped."""
    try:
        text = orjson.dumps(value)
    except orjson.JSONEncodeError:
        return clean(type(value).__name__, chars_max)
    # Bytes are cut first, so that a megabyte is neither decoded nor escaped: no character has more than 4 of them.
    return clean(text[: 4 * chars_max + 4].decode(errors="ignore"), chars_max)


def shown_text(text: str, chars_max: int = VALUE_CHARS_MAX, *, quoted: bool = True) -> str:
    """`text` itself, in double quotes unless told otherwise, at most `chars_max` characters."""
    text = text[: chars_max + 1]
    return clean(json.dumps(text, ensure_ascii=False) if quoted else text, chars_max)


def clean(text: str, chars_max: int) -> str:
    """`text` cut to `chars_max` characters, non-printable ones (CR, LF, ANSI escapes, bidi marks) escaped."""
    text = text[: chars_max + 1]
    if not text.isprintable():
        text = "".join(char if char.isprintable() else _escape(char) for char in text)
    return text if len(text) <= chars_max else text[: chars_max - 1] + _CUT


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
