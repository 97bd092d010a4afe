"""Failures of an event against its contract, as lines for people (C2)."""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from pipeline.contracts.shown import clean, shown, shown_text

LINES_MAX = 20
LINE_CHARS_MAX = 200
_SPEC_CHARS_MAX = 60

Style = Literal["talk", "pointer"]


class Failure(NamedTuple):
    """One failure. path: where, from the root. value: what stands there, or for a missing field what should hold it.

    spec: what it should have been, in words. keyword: the JSON Schema keyword that refused.
    """

    path: tuple[str | int, ...]
    value: Any
    spec: str
    keyword: str


def lines(failures: Iterable[Failure], style: Style = "talk") -> tuple[str, ...]:
    """At most 20 different lines of at most 200 characters.

    talk: `In :data/:user_id, val: "abc" fails spec: integer or uuid`; pointer: `/data/user_id: "abc": anyOf`.
    """
    write = _talk if style == "talk" else _pointer
    return tuple(dict.fromkeys(clean(write(failure), LINE_CHARS_MAX) for failure in failures))[:LINES_MAX]


def _talk(failure: Failure) -> str:
    parts = (f":{_part(part)}" if isinstance(part, str) else str(part) for part in failure.path)
    return f"In {'/'.join(parts) or 'the event'}, val: {shown(failure.value)} fails spec: {failure.spec}"


def _pointer(failure: Failure) -> str:
    pointer = "".join("/" + _part(str(part).replace("~", "~0").replace("/", "~1")) for part in failure.path)
    return f"{pointer}: {shown(failure.value)}: {failure.keyword}"


def _part(name: str) -> str:
    return shown_text(name, _SPEC_CHARS_MAX, quoted=False)


# These speak of a value's fields or items, not of what kind of value it is: the schema's title would mislead.
_OF_CONTENT = frozenset({"required", "dependentRequired", "additionalProperties", "propertyNames"})


def spec_of(keyword: str, expected: Any, schema: Any) -> str:
    """What a value should have been: the schema's title if it has one, else its keyword in words."""
    if keyword in _OF_CONTENT:
        return keyword
    title = schema.get("title") if isinstance(schema, dict) else None
    if isinstance(title, str):
        return shown_text(title, _SPEC_CHARS_MAX, quoted=False)
    match keyword:
        case "type":
            spec = expected if isinstance(expected, str) else " or ".join(expected)
        case "const":
            spec = shown(expected, _SPEC_CHARS_MAX)
        case "enum":
            spec = "one of " + ", ".join(shown(item, 20) for item in expected[:8])
        case _:
            spec = (
                f"{keyword} {shown(expected, _SPEC_CHARS_MAX)}" if isinstance(expected, str | int | float) else keyword
            )
    return spec
