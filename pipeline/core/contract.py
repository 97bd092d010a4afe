"""What the core asks of a contract: bytes in, an event's parts or a refusal out, never an exception (C3)."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol


class Decoded(NamedTuple):
    """ok(event): `msg_id` in lower case; `document` is the whole parsed value, unknown fields included (C4)."""

    type: str
    msg_id: str
    data: dict[str, Any]
    meta: dict[str, Any] | None
    document: dict[str, Any]


class Refused(NamedTuple):
    """error(list): `kind` names the failure, `message` is one short line, `explain` one line a failure.

    kind: Tombstone, TooLarge, MalformedJson, NotAnObject, UnknownType or ContractBroken.
    """

    kind: str
    message: str
    explain: tuple[str, ...]
    event_type: str | None


class Contract(Protocol):
    """The contract of one topic."""

    def decode(self, raw: bytes | None) -> Decoded | Refused:
        """The event's parts, or why not."""
        ...

    def encode(self, type_: str, msg_id: str, data: Mapping[str, Any], meta: Mapping[str, Any] | None) -> bytes:
        """The bytes of an event; raises when its contract refuses it."""
        ...
