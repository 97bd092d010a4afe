"""The state that a handler sees: rows under its event's key, read through what the batch has written so far."""

from collections.abc import Callable
from typing import TypeAlias

from pipeline.core.idempotence import sets_of

Row: TypeAlias = tuple[bytes, bytes | None]
"""A row key and its absolute value; None deletes it (a tombstone in the changelog)."""

SEPARATOR = b"\x00"


class State:
    """State under one event's key; every row key is `<view> NUL <key>[ NUL <sub-key>]`, so keys can't mix.

    `writes` holds what this event has written: a savepoint, dropped when the handler raises. `msg_id` is the event's;
    `sets` names the msg-id sets that it is in: those that its mark says (a new event has none) and those it is put in.
    """

    __slots__ = ("_pending", "_stored", "_suffix", "key", "msg_id", "sets", "writes")

    def __init__(
        self,
        key: str,
        pending: dict[bytes, bytes | None],
        stored: Callable[[bytes], bytes | None],
        msg_id: str = "",
        mark: bytes | None = None,
    ) -> None:
        self.key = key
        self.msg_id = msg_id
        self.sets: list[str] = [] if mark is None else sets_of(mark)
        self.writes: dict[bytes, bytes | None] = {}
        self._suffix = b"\x00" + key.encode()
        self._pending = pending
        self._stored = stored

    def row(self, view: bytes, sub_key: str | None = None) -> bytes:
        """The row key of this event's key in `view`."""
        if sub_key is None:
            return view + self._suffix
        return view + self._suffix + b"\x00" + sub_key.encode()

    def get(self, row: bytes) -> bytes | None:
        """The value of a row, or None. TypeError for a row that isn't bytes: see `row`."""
        if row in self.writes:
            return self.writes[row]
        if row in self._pending:
            return self._pending[row]
        if type(row) is not bytes:
            raise TypeError(f"a row key is bytes, not {type(row).__name__}")
        return self._stored(row)

    def put(self, row: bytes, value: bytes) -> None:
        """Write a row. TypeError unless both are bytes."""
        if type(row) is not bytes or type(value) is not bytes:
            raise TypeError(f"a row is bytes, key and value, not {type(row).__name__} and {type(value).__name__}")
        self.writes[row] = value

    def delete(self, row: bytes) -> None:
        """Delete a row. TypeError unless its key is bytes."""
        if type(row) is not bytes:
            raise TypeError(f"a row key is bytes, not {type(row).__name__}")
        self.writes[row] = None
