"""What a handler returns: effects are data, so that they can be retried, logged and asserted."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Self, TypeAlias

from pipeline.core.topic import Topic

NAME_CHARS_MAX = 100


class _Publish(NamedTuple):
    topic: Topic
    type: str
    data: Mapping[str, Any]
    name: str | None = None


class Publish(_Publish):
    """One event to be written to `topic`. `name` goes into its derived msg_id; None means the effect's position."""

    __slots__ = ()

    def __new__(cls, topic: Topic, type: str, data: Mapping[str, Any], name: str | None = None) -> Self:  # noqa: A002
        """TypeError for parts of another type; whether the data is in its contract is judged when it is encoded."""
        _require(topic, Topic, "the topic of a Publish")
        _require(type, str, "the type of a Publish")
        _require(data, Mapping, "the data of a Publish")
        if name is not None:
            _require(name, str, "the name of a Publish")
        return tuple.__new__(cls, (topic, type, data, name))


class _Upsert(NamedTuple):
    table: str
    values: Mapping[str, Any]
    greatest: tuple[str, ...] = ()


class Upsert(_Upsert):
    """One row of the SQL read model.

    table: a declared table. values: column → value, the primary key among them. greatest: columns of which the larger
    value stays (`count = max(old, new)`); with none, an existing row is left as it is (insert-if-absent).
    """

    __slots__ = ()

    def __new__(cls, table: str, values: Mapping[str, Any], greatest: tuple[str, ...] = ()) -> Self:
        """TypeError for parts of another type; whether the row fits its table is judged when the handler is done."""
        if type(table) is not str or type(values) is not dict or type(greatest) is not tuple:
            _require(table, str, "the table of an Upsert")
            _require(values, Mapping, "the values of an Upsert")
            _require(greatest, (tuple, list), "greatest of an Upsert")
        return tuple.__new__(cls, (table, values, greatest))


class _Audit(NamedTuple):
    kind: str
    fields: Mapping[str, str]


class Audit(_Audit):
    """One record for the audit topic: what happened (`kind`), and text fields about it."""

    __slots__ = ()

    def __new__(cls, kind: str, fields: Mapping[str, str]) -> Self:
        """TypeError for parts of another type; a number has to be written as text."""
        _require(kind, str, "the kind of an Audit")
        _require(fields, Mapping, "the fields of an Audit")
        fields = dict(fields)
        for name, value in fields.items():
            _require(name, str, "the name of an Audit's field")
            _require(value, str, f"field {name[:NAME_CHARS_MAX]!r} of an Audit")
        return tuple.__new__(cls, (kind, fields))


class _Outside(NamedTuple):
    view: str
    act: Callable[[], Awaitable[None]]
    what: str


class Outside(_Outside):
    """Something done to the world outside (a mail) at most once, under a claim.

    view: name of the Claims view. act: does it; may raise Blocking (nothing happened, try again), InDoubt (it may
    have happened), Reject (the record asks for something that can't be done). what: for the audit record.
    """

    __slots__ = ()

    def __new__(cls, view: str, act: Callable[[], Awaitable[None]], what: str) -> Self:
        """TypeError for parts of another type."""
        _require(view, str, "the view of an Outside, by its name,")
        if not callable(act):
            raise TypeError(f"the act of an Outside is a function without arguments, not {type(act).__name__}")
        _require(what, str, "the what of an Outside")
        return tuple.__new__(cls, (view, act, what))


def _require(part: object, kind: type | tuple[type, ...], what: str) -> None:
    if not isinstance(part, kind):
        wanted = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise TypeError(f"{what} is a {wanted}, not {type(part).__name__}")


Effect: TypeAlias = Publish | Upsert | Audit | Outside
EFFECTS = (Publish, Upsert, Audit, Outside)


def publish(topic: Topic, type_: str, /, *, output: str | None = None, **data: Any) -> Publish:
    """An event of `type_` with these fields for `topic`; `output` names it within its handler."""
    if output is not None and type(output) is not str:
        raise TypeError(f"the output of a publish is a text, not {type(output).__name__}: it names the event for good")
    return tuple.__new__(Publish, (topic, type_, data, output))  # half the time of Publish(…)
