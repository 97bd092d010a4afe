"""What a schema must be to serve as a contract; checked at start, so that the hot path can rely on it.

A contract is JSON Schema 2020-12, complete in its file, in a subset that both validators read alike.
"""

from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator, SchemaError

from pipeline.contracts.errors import SchemaBroken
from pipeline.contracts.patterns import PatternRefused, check_pattern
from pipeline.contracts.shown import shown

DIALECT = "https://json-schema.org/draft/2020-12/schema"
LOCAL = "#/$defs/"

_SCHEMA = frozenset({"additionalProperties", "items", "contains", "propertyNames", "not", "if", "then", "else"})
_SCHEMA_LIST = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SCHEMA_MAP = frozenset({"properties", "$defs"})
_VALUES = frozenset(
    [
        *("type", "const", "enum", "required", "dependentRequired", "minProperties", "maxProperties"),
        *("minItems", "maxItems", "minContains", "maxContains", "minLength", "maxLength"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    ]
)
_NOTES = frozenset({"$comment", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"})
_CHECKED = frozenset({"$ref", "pattern", "multipleOf"})
_ROOT_ONLY = frozenset({"$schema", "$defs"})
_KNOWN = _SCHEMA | _SCHEMA_LIST | _SCHEMA_MAP | _VALUES | _NOTES | _CHECKED | _ROOT_ONLY

_INSTEAD = {
    "format": 'few validators assert it: describe the text with "pattern" and "maxLength"',
    "patternProperties": 'use "propertyNames" with a pattern and "additionalProperties"',
    "uniqueItems": "comparing all pairs of a long list takes too long: let the handler judge",
    "$id": "a contract is complete in its file and known by its file's name: remove it",
    "$anchor": f'refer to a definition by its place: "{LOCAL}name"',
    "$dynamicRef": f'use "$ref": "{LOCAL}name"',
    "unevaluatedProperties": 'contracts are open: remove it, or use "additionalProperties"',
}

Place = tuple[str, dict[str, Any]]  # JSON pointer, the schema there


def check_schema(schema: Any) -> None:
    """Raises SchemaBroken, naming place and remedy, unless `schema` can serve as a contract."""
    if not isinstance(schema, dict):
        raise SchemaBroken("", "a contract is a JSON object", "start from another contract of this directory")
    if schema.get("$schema", DIALECT) != DIALECT:
        raise SchemaBroken("/$schema", f"the dialect is {shown(schema['$schema'])}", f"use {DIALECT}")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        pointer = "".join(f"/{escaped(str(part))}" for part in error.absolute_path)
        raise SchemaBroken(pointer, f"not a JSON Schema: {error.message[:200]}", "see JSON Schema 2020-12") from None
    for pointer, place in places(schema):
        for keyword, value in place.items():
            _check_keyword(f"{pointer}/{escaped(keyword)}", keyword, value, place, schema)
    _refuse_loops(schema)


def places(schema: Any, pointer: str = "") -> Iterator[Place]:
    """Every schema object within `schema`, itself first, with its JSON pointer; definitions included."""
    if not isinstance(schema, dict):
        return
    yield pointer, schema
    for keyword, value in schema.items():
        below = f"{pointer}/{escaped(keyword)}"
        if keyword in _SCHEMA:
            yield from places(value, below)
        elif keyword in _SCHEMA_LIST:
            for position, item in enumerate(value):
                yield from places(item, f"{below}/{position}")
        elif keyword in _SCHEMA_MAP:
            for name, item in value.items():
                yield from places(item, f"{below}/{escaped(name)}")


def escaped(name: str) -> str:
    """`name` as a part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _check_keyword(pointer: str, keyword: str, value: Any, place: dict[str, Any], root: dict[str, Any]) -> None:
    if keyword.startswith("x-"):
        return
    if keyword not in _KNOWN:
        remedy = _INSTEAD.get(keyword, 'correct its spelling, or begin it with "x-" if it is a note')
        raise SchemaBroken(pointer, f"keyword {shown(keyword)} is not among those that contracts use", remedy)
    if keyword in _ROOT_ONLY and place is not root:
        raise SchemaBroken(pointer, f"{keyword} stands inside", "move it to the root")
    if keyword == "$ref":
        _check_ref(pointer, value, root.get("$defs", {}))
    elif keyword == "pattern":
        _check_pattern(pointer, value, place.get("maxLength"))
    elif keyword == "multipleOf" and type(value) is not int:
        raise SchemaBroken(pointer, "validators round fractions differently", "use a multiple of an integer")


def _check_ref(pointer: str, value: str, definitions: dict[str, Any]) -> None:
    if not value.startswith(LOCAL):
        problem = f"reference {shown(value)} leaves the definitions of this file"
        raise SchemaBroken(pointer, problem, f'use "{LOCAL}name"')
    name = value.removeprefix(LOCAL)
    if name not in definitions or not name.isidentifier():
        raise SchemaBroken(pointer, f"reference {shown(value)} leads nowhere", "define it under $defs, by a plain name")


def _check_pattern(pointer: str, value: str, length_max: int | None) -> None:
    try:
        check_pattern(value, length_max)
    except PatternRefused as error:
        raise SchemaBroken(pointer, f"pattern {shown(value)}: {error}", "rewrite the pattern") from None


def _refuse_loops(root: dict[str, Any]) -> None:
    """A definition that contains itself: validation of a hostile value could go round for ever, or too deep."""
    uses = {
        name: {place["$ref"].removeprefix(LOCAL) for _, place in places(definition) if "$ref" in place}
        for name, definition in root.get("$defs", {}).items()
    }
    while free := [name for name, used in uses.items() if not used & uses.keys()]:
        for name in free:
            del uses[name]
    if uses:
        name = next(iter(uses))
        problem = "the definition refers to itself, in a loop"
        raise SchemaBroken(f"/$defs/{escaped(name)}", problem, "bound it: spell out its levels")
