"""The judge: jsonschema with exact integers. Only it pronounces a rejection, and it says why (C9)."""

from itertools import islice
from typing import Any, cast

from jsonschema import Draft202012Validator, ValidationError, validators
from referencing import Registry

from pipeline.contracts.explain import LINES_MAX, Failure, spec_of
from pipeline.contracts.patterns import compiled

type_path = tuple[str | int, ...]


def _pattern(validator: Any, pattern: str, instance: Any, schema: dict[str, Any]) -> Any:
    """As ECMA-262 and the fast validator read it: `$` is the very end (Python's also stands before a last newline)."""
    if not validator.is_type(instance, "string"):
        return
    if len(instance) > schema.get("maxLength", len(instance)):
        return  # maxLength says it; matching a megabyte would cost
    if not compiled(pattern).search(instance):
        yield ValidationError("does not match")


_EXACT_INTEGERS = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
_Validator = validators.extend(  # type: ignore[no-untyped-call]  # its stubs leave it untyped
    Draft202012Validator, {"pattern": _pattern}, type_checker=_EXACT_INTEGERS
)


class Judge:
    """Judges events by one checked schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._validator = _Validator(schema, registry=Registry())  # empty: no reference leaves the schema

    def failures(self, document: Any) -> list[Failure]:
        """Why `document` is refused, at most 20 failures in declared order; empty when it is valid."""
        found: list[Failure] = []
        for error in islice(self._validator.iter_errors(document), LINES_MAX):
            found += _failures(error)
        found.sort(key=lambda failure: self._declared_place(failure.path))
        return found[:LINES_MAX]

    def _declared_place(self, path: type_path) -> tuple[int, ...]:
        """Where `path` stands in the order in which the schema declares its properties."""
        place, schema = [], self._schema
        for part in path:
            schema = self._resolved(schema)
            if isinstance(part, int):
                place.append(part)
                schema = self._as_schema(schema.get("items"))
            else:
                declared = schema.get("properties", {})
                place.append(list(declared).index(part) if part in declared else len(declared))
                schema = self._as_schema(declared.get(part))
        return tuple(place)

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema and "properties" not in schema:
            schema = self._as_schema(self._schema["$defs"][schema["$ref"].removeprefix("#/$defs/")])
        return schema

    @staticmethod
    def _as_schema(schema: Any) -> dict[str, Any]:
        return schema if isinstance(schema, dict) else {}


def _failures(error: ValidationError) -> list[Failure]:
    keyword, expected = str(error.validator), cast("Any", error.validator_value)
    path, value = tuple(error.absolute_path), cast("Any", error.instance)
    if keyword == "required":
        # jsonschema reports each missing field, naming it in prose only; lines said twice are dropped later.
        return [Failure((*path, name), value, keyword, keyword) for name in expected if name not in value]
    return [Failure(path, value, spec_of(keyword, expected, error.schema), keyword)]
