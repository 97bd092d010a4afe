"""An event: a record decoded by its contract, read-only (D7)."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_type_hints


class ReadOnly(Mapping[str, Any]):
    """A read-only view of a decoded JSON object; nested objects and lists come out read-only too."""

    __slots__ = ("_fields",)
    _fields: dict[str, Any]

    def __init__(self, fields: dict[str, Any]) -> None:
        _set_fields(self, fields)

    def __getitem__(self, name: str) -> Any:
        return read_only(self._fields[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"ReadOnly({self._fields!r})"

    def __eq__(self, other: object) -> bool:
        return dict(self._fields) == (other._fields if isinstance(other, ReadOnly) else other)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("an event is read-only: return effects, don't change what came in")

    __hash__ = None  # type: ignore[assignment]  # content may hold lists

    def mutable(self) -> dict[str, Any]:
        """The dict behind, for encoders only; never change it."""
        return self._fields


_set_fields = ReadOnly.__dict__["_fields"].__set__  # past __setattr__, at a third of object.__setattr__'s time


def read_only(value: Any) -> Any:
    """`value` such that it can't be changed through what is returned."""
    kind = type(value)
    if kind is dict:
        return ReadOnly(value)
    if kind is list:
        return tuple(read_only(item) for item in value)
    return value


class _Coordinates(NamedTuple):
    msg_id: str
    type: str
    key: str
    data: ReadOnly
    meta: ReadOnly | None
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    trace: bytes | None


class _Field:
    """Descriptor of a typed event's field: reads it out of `data`; None when an optional one is absent."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, event: Any, owner: type | None = None) -> Any:
        if event is None:
            return self
        return read_only(event.data.mutable().get(self.name))


class Event(_Coordinates):
    """One event of one key.

    msg_id: lower case. type: e.g. "comment.created". key: the record key as text, UUIDs in lower case. data, meta:
    read-only mappings. topic, partition, offset: where it stood. timestamp_ms: the record's time, the only clock that
    a handler may use. trace: the record's `traceparent` header.

    Subclass it to name the fields of `data` that a handler reads:

        class CommentCreated(Event):
            user_id: int | str
            msg: str
    """

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in inspect.get_annotations(cls):
            if name in _Coordinates._fields or hasattr(tuple, name):
                raise TypeError(
                    f"{cls.__name__}.{name}: every event has a field of that name; read data[{name!r}] instead"
                )
            setattr(cls, name, _Field(name))


def event_class_of(handler: Any) -> type[Event]:
    """The Event subclass that a handler's first parameter is annotated with; Event itself without an annotation."""
    hints = get_type_hints(handler)
    hint = hints.get(next(iter(inspect.signature(handler).parameters), ""))
    return hint if isinstance(hint, type) and issubclass(hint, Event) else Event
