"""The contract of one topic: bytes → an event's parts or a refusal; an event's parts → bytes."""

from collections.abc import Mapping
from typing import Any

import jsonschema_rs
import orjson

from pipeline.contracts.errors import ContractBroken, SchemaBroken, UnknownType, headline
from pipeline.contracts.explain import LINE_CHARS_MAX, Failure, Style, lines
from pipeline.contracts.judge import Judge
from pipeline.contracts.schema import check_schema
from pipeline.contracts.shown import clean, shown, shown_text
from pipeline.contracts.strict import INT64_MAX, INT64_MIN, Malformed, is_exact, parse
from pipeline.core.contract import Decoded, Refused
from pipeline.core.event import ReadOnly

__all__ = ["Contract", "Decoded", "Refused"]


class Contract:
    """Decodes and encodes the events of one topic.

    schemas: event type → JSON Schema (2020-12) of the whole event `{msg_id, type, data, meta?}`. Raises SchemaBroken,
    with the type as `event_type`, for a schema that can't serve.
    """

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self.schemas = dict(schemas)
        self._rules = {event_type: _Rules(event_type, schema) for event_type, schema in schemas.items()}

    @property
    def types(self) -> tuple[str, ...]:
        """The event types of this topic."""
        return tuple(self._rules)

    def decode(self, raw: bytes | None) -> Decoded | Refused:
        """The event's parts, msg_id in lower case; or why not. Never an exception (C3)."""
        if raw is None:
            return Refused("Tombstone", "the record has no value (a tombstone)", ("the record has no value",), None)
        try:
            document, exact = parse(raw)
        except Malformed as error:
            message = clean(str(error), LINE_CHARS_MAX)
            return Refused(type(error).error_class, message, (message,), None)
        try:
            rules = self._rules[document["type"]]
        except (KeyError, TypeError):  # no type that we know, or no object at all
            return self._refused(document)
        # The fast validator may only wave an event through; whatever else it says, the judge decides (C9).
        if not (exact and rules.is_valid(document)) and (failures := rules.judge.failures(document)):
            return _broken(failures, rules.event_type)
        # A valid event has all parts: that its schema sees to it was probed at start.
        return Decoded(rules.event_type, document["msg_id"].lower(), document["data"], document.get("meta"), document)

    def encode(self, type_: str, msg_id: str, data: Mapping[str, Any], meta: Mapping[str, Any] | None) -> bytes:
        """The bytes of an event, checked as its readers will: what is written is parsed and judged.

        Raises UnknownType, or ContractBroken with the failures; read-only views and tuples may stand anywhere inside.
        """
        rules = self._rules.get(type_)
        if rules is None:
            raise UnknownType(self._unknown_type(type_))
        document = {"msg_id": msg_id, "type": type_, "data": data}
        if meta is not None:
            document["meta"] = meta
        try:
            raw = orjson.dumps(document, default=_plain)
            if _plainly_valid(rules, document, raw):
                return raw
            written, exact = parse(raw)
        except (orjson.JSONEncodeError, Malformed) as error:
            raise ContractBroken((clean(str(error), LINE_CHARS_MAX),), type_) from error
        if not (exact and rules.is_valid(written)):
            failures = rules.judge.failures(written)
            if failures:
                raise ContractBroken(lines(failures), type_)
        if b"null" in raw and not _same_nulls(document, written):
            raise ContractBroken(("NaN and infinite numbers are not JSON",), type_)
        return raw

    def explain(self, raw: bytes | None, style: Style = "talk") -> tuple[str, ...]:
        """Why `raw` is refused, one line a failure; empty when it is an event of this topic."""
        try:
            return ("the record has no value",) if raw is None else lines(self._failures(parse(raw).value), style)
        except Malformed as error:
            return (clean(str(error), LINE_CHARS_MAX),)

    def _failures(self, document: Any) -> list[Failure]:
        """What the judge says, and, where there is no schema to judge by, what every event of the topic needs."""
        if not isinstance(document, dict):
            return [Failure((), document, "object", "type")]
        given = document.get("type")
        if isinstance(given, str) and given in self._rules:
            return self._rules[given].judge.failures(document)
        if "type" in document:
            names = ", ".join(shown_text(name) for name in self._rules)
            return [Failure(("type",), given, names if len(self._rules) == 1 else f"one of {names}", "const")]
        common: list[Failure] | None = None
        for rules in self._rules.values():
            found = rules.judge.failures(document)
            same = {(failure.path, failure.keyword, failure.spec) for failure in found}
            kept = found if common is None else common
            common = [failure for failure in kept if (failure.path, failure.keyword, failure.spec) in same]
        return common or []

    def _refused(self, document: Any) -> Refused:
        """The refusal of what names no type of this topic, or is no object at all."""
        failures = self._failures(document)
        if not isinstance(document, dict):
            return Refused("NotAnObject", f"an event is a JSON object, not {shown(document)}", lines(failures), None)
        given = document.get("type")
        if not isinstance(given, str):
            return _broken(failures, None)
        return Refused("UnknownType", self._unknown_type(given), lines(failures), shown_text(given, quoted=False))

    def _unknown_type(self, given: str) -> str:
        return clean(f"unknown type {shown_text(given)}: this topic has {', '.join(self._rules)}", LINE_CHARS_MAX)


class _Rules:
    """One event type: its fast validator and its judge."""

    __slots__ = ("event_type", "is_valid", "judge")

    def __init__(self, event_type: str, schema: Any) -> None:
        self.event_type = event_type
        try:
            check_schema(schema)
            self.judge = Judge(schema)
            try:
                self.is_valid = jsonschema_rs.Draft202012Validator(schema, offline=True).is_valid
            except (ValueError, TypeError) as error:
                raise SchemaBroken("", f"not a usable schema: {str(error)[:200]}", "simplify what it names") from None
            self._probe()
        except SchemaBroken as error:
            error.event_type = event_type
            raise

    def _probe(self) -> None:
        """The parts of an event must be judged: the code behind takes `msg_id` for a UUID, `data` for an object."""
        parts: tuple[tuple[str, tuple[Any, ...], str], ...] = (
            ("msg_id", ("", "abc", 5, None), "give it the pattern of a UUID and a length of 36"),
            ("type", (self.event_type + "\n", 5, None), f'say {{"const": {shown_text(self.event_type)}}}'),
            ("data", ([], "", None), 'say {"type": "object", …}'),
            ("meta", ([], "", None), 'say {"type": "object"}; it is optional'),
        )
        for name, unfit, remedy in parts:
            for value in unfit:
                if not any(failure.path == (name,) for failure in self.judge.failures({name: value})):
                    problem = f"the contract accepts {shown(value)} as {name} of {shown_text(self.event_type)}"
                    raise SchemaBroken(f"/properties/{name}", problem, remedy)
            if name != "meta" and not any(failure.path == (name,) for failure in self.judge.failures({})):
                raise SchemaBroken("/required", f"{name} is not required", f'add "{name}" to "required"')
        if any(failure.path == ("type",) for failure in self.judge.failures({"type": self.event_type})):
            problem = f"the contract refuses its own type {shown_text(self.event_type)}"
            raise SchemaBroken("/properties/type", problem, "the type is the file's name without .json")


def _broken(failures: list[Failure], event_type: str | None) -> Refused:
    explain = lines(failures)
    return Refused("ContractBroken", clean(headline(explain, event_type), LINE_CHARS_MAX), explain, event_type)


def _plain(value: Any) -> Any:
    """What orjson can't write by itself: read-only views."""
    if type(value) is ReadOnly:
        return value.mutable()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _is_flat(document: dict[str, Any]) -> bool:
    """Whether `data` is made of texts and integers of 64 bits, as most outputs are: cheaper than the exact check."""
    if len(document) > 3:  # meta may hold anything
        return False
    for value in document["data"].values():
        kind = type(value)
        if kind is not str and not (kind is int and INT64_MIN <= value <= INT64_MAX):
            return False
    return True


def _plainly_valid(rules: _Rules, document: dict[str, Any], raw: bytes) -> bool:
    """Whether the value needs no reading back: made of JSON's own types, exact, in the contract, and nothing of it
    became null on the way.
    """
    try:
        return b"null" not in raw and (_is_flat(document) or is_exact(document)) and rules.is_valid(document)
    except (ValueError, TypeError):  # read-only views and the like, which the fast validator doesn't know
        return False


def _same_nulls(given: Any, written: Any) -> bool:
    """Whether each null in `written` was None in `given`: orjson writes NaN and infinities as null."""
    pairs = [(given, written)]
    while pairs:
        given, written = pairs.pop()
        if written is None and given is not None:
            return False
        if isinstance(written, dict) and isinstance(given, Mapping):
            pairs += [(given[name], item) for name, item in written.items()]
        elif isinstance(written, list) and isinstance(given, list | tuple):
            pairs += zip(given, written, strict=True)
    return True
