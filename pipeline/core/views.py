"""Typed views of a unit's state, declared in `tables/`: msg-id sets, counters, relations, claims.

A view is a name and a meaning of rows; it holds no data. `view.of(state)` is the view of one event's key.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from pipeline.core.errors import Misconfigured, Reject
from pipeline.core.state import SEPARATOR, State

RELATED_CHARS_MAX = 1000


@dataclass(frozen=True, slots=True)
class View:
    """What `tables dump` and `/state` show: rows whose key begins with `<name> NUL`, decoded by `read`."""

    name: str
    kind: ClassVar[str] = "view"

    def __post_init__(self) -> None:
        given: Any = self.name
        if not isinstance(given, str) or not given.isprintable():
            raise Misconfigured(f"a view's name is a word of printable characters, not {self.name!r:.100}")
        if not self.name or self.name.startswith("_") or "\0" in self.name or "." in self.name:
            raise Misconfigured(f"a view's name is a word without '.', NUL or a leading '_', not {self.name!r}")

    @property
    def prefix(self) -> bytes:
        """What the row keys of this view begin with."""
        return self.name.encode() + SEPARATOR

    def show_key(self, row: bytes) -> str:
        """The key as people see it: the parts joined by `/`."""
        return row[len(self.prefix) :].decode().replace("\0", "/")

    def row_of(self, key: str) -> bytes:
        """The row that `show_key` shows as `key`."""
        return self.prefix + key.replace("/", "\0", 1).encode()

    def show_value(self, value: bytes) -> Any:
        """The value as people see it."""
        return value.decode()


@dataclass(frozen=True, slots=True)
class MsgIdSet(View):
    """A set of msg_ids per key and its cardinality: a count that no redo can raise (D2).

    A member costs no row of its own: the mark of the event, one row per (key, msg_id), says which sets it is in (D5).
    The cardinality is kept beside it, written in the same record batch as the mark.
    """

    kind: ClassVar[str] = "msg-id set"

    def __post_init__(self) -> None:
        View.__post_init__(self)
        if "," in self.name:
            raise Misconfigured(f"a msg-id set's name has no comma, which parts the names in a mark: {self.name!r}")

    def of(self, state: State) -> "MsgIds":
        """The set of this event's key."""
        return tuple.__new__(MsgIds, (state, self.name))  # half the time of MsgIds(…)

    def show_value(self, value: bytes) -> int:
        return int(value)


class MsgIds(NamedTuple):
    """The msg_ids of one key."""

    state: State
    name: str

    def add(self, msg_id: str) -> int:
        """Put the event's own msg_id in; the number of different ones in the set, this one among them.

        The event's mark says whether it is in already. Another id than the event's is a ValueError: it has no mark here
        that could say so.
        """
        state = self.state
        if msg_id != state.msg_id:
            if not isinstance(msg_id, str):
                raise TypeError(f"a msg-id set takes the event's msg_id as text, not {_kind(msg_id)}")
            raise ValueError(f"a msg-id set takes the msg_id of the event in hand, not {msg_id[:64]!r}")
        row = state.row(self.name.encode())
        known = state.get(row)
        count = int(known) if known is not None else 0
        if self.name not in state.sets:
            count += 1
            state.sets.append(self.name)
            state.put(row, b"%d" % count)
        return count

    def cardinality(self) -> int:
        """The number of different msg_ids."""
        known = self.state.get(self.state.row(self.name.encode()))
        return int(known) if known is not None else 0


@dataclass(frozen=True, slots=True)
class Counter(View):
    """A number per key, set to absolute values."""

    kind: ClassVar[str] = "counter"

    def of(self, state: State) -> "Count":
        """The counter of this event's key."""
        return Count(state, self.name.encode())

    def show_value(self, value: bytes) -> int:
        return int(value)


class Count(NamedTuple):
    """The number of one key."""

    state: State
    view: bytes

    def get(self) -> int:
        """Its value, 0 when never set."""
        known = self.state.get(self.state.row(self.view))
        return int(known) if known is not None else 0

    def set(self, value: int) -> None:
        """Set it. TypeError for what isn't a whole number: a fraction would be cut off in silence."""
        if type(value) is not int and (isinstance(value, bool) or not isinstance(value, int)):
            raise TypeError(f"a counter takes an int, not {_kind(value)}")
        self.state.put(self.state.row(self.view), b"%d" % value)


@dataclass(frozen=True, slots=True)
class Relation(View):
    """Pairs (key, other): whom a user follows; one row a pair."""

    kind: ClassVar[str] = "relation"

    def of(self, state: State) -> "Related":
        """The pairs of this event's key."""
        return Related(state, self.name.encode())

    def show_value(self, value: bytes) -> bool:
        return value == b"1"


class Related(NamedTuple):
    """What one key is related to."""

    state: State
    view: bytes

    def add(self, other: int | str) -> None:
        """Relate the key to `other`."""
        self.state.put(self.state.row(self.view, _text(other)), b"1")

    def remove(self, other: int | str) -> None:
        """End the relation, if there is one."""
        self.state.delete(self.state.row(self.view, _text(other)))

    def has(self, other: int | str) -> bool:
        """Whether the key is related to `other`."""
        return self.state.get(self.state.row(self.view, _text(other))) is not None


def _text(other: int | str) -> str:
    """As text. TypeError for other types: 2.0, True or None would be keys that nobody finds again by 2, 1 or ""."""
    if isinstance(other, bool) or not isinstance(other, int | str):
        raise TypeError(f"a related key is an int or text, not {_kind(other)}")
    text = str(other).lower()
    if "\0" in text or len(text) > RELATED_CHARS_MAX:
        raise Reject(f"a related key has no NUL and at most {RELATED_CHARS_MAX} characters")
    return text


def _kind(value: object) -> str:
    """A value of the wrong type, for people."""
    return f"{value!r:.64} ({type(value).__name__})"


@dataclass(frozen=True, slots=True)
class Claims(View):
    """Intents stored before an outside effect: msg_id → claimed (by which incarnation), done, in doubt (D4).

    Its rows stand under the msg_id alone; the engine writes them, handlers only name the view in an `Outside` effect.
    """

    kind: ClassVar[str] = "claims"

    def claim_row(self, msg_id: str) -> bytes:
        """The row of one claim."""
        return self.prefix + msg_id.encode()

    def show_value(self, value: bytes) -> str:
        return value.decode().partition(" ")[0].replace("_", " ")
