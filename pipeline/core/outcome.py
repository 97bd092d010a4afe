"""What became of one record."""

from typing import NamedTuple

from pipeline.core.effects import Audit, Outside, Upsert
from pipeline.core.event import Event
from pipeline.core.record import Outbound, Record
from pipeline.core.state import Row


class Rejection(NamedTuple):
    """Why a record goes to the error topic. error_class: the failure's type, e.g. ContractBroken, Reject."""

    error_class: str
    message: str
    explain: tuple[str, ...] = ()
    stack: str = ""


class Candidate(NamedTuple):
    """A decoded record before deduplication. mark: its row key. digest: of type + data."""

    record: Record
    event: Event
    mark: bytes
    digest: bytes


class Applied(NamedTuple):
    """The event took effect: rows (its mark among them), outputs, SQL rows, audits."""

    record: Record
    event: Event
    rows: tuple[Row, ...]
    outputs: tuple[Outbound, ...]
    upserts: tuple[Upsert, ...]
    audits: tuple[Audit, ...]
    outside: tuple[Outside, ...] = ()


class Duplicate(NamedTuple):
    """Its msg_id was already applied with the same content: nothing to do."""

    record: Record
    event: Event


class Conflict(NamedTuple):
    """Its msg_id was already applied with other content: the first wins, the conflict is audited (D3)."""

    record: Record
    event: Event


class Rejected(NamedTuple):
    """To the error topic; not marked, so that every copy is judged again and a replay applies."""

    record: Record
    rejection: Rejection


class Ignored(NamedTuple):
    """An event of a type that this agent has no handler for, and is told to pass over."""

    record: Record


class Blocked(NamedTuple):
    """The record can't be decided now: it and everything behind it in its unit wait. reason: the dependency, or
    `bug` for an unexpected exception of a handler.
    """

    record: Record
    reason: str
    message: str
    stack: str = ""


Outcome = Applied | Duplicate | Conflict | Rejected | Ignored
