"""What a handler returns: effects are data, so that they can be retried, logged and asserted."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from pipeline.core.topic import Topic


class Publish(NamedTuple):
    """One event to be written to `topic`. `name` goes into its derived msg_id; None means the effect's position."""

    topic: Topic
    type: str
    data: Mapping[str, Any]
    name: str | None = None


class Upsert(NamedTuple):
    """One row of the SQL read model.

    table: a declared table. values: column → value, the primary key among them. greatest: columns of which the larger
    value stays (`count = max(old, new)`); with none, an existing row is left as it is (insert-if-absent).
    """

    table: str
    values: Mapping[str, Any]
    greatest: tuple[str, ...] = ()


class Audit(NamedTuple):
    """One record for the audit topic: what happened (`kind`), and text fields about it."""

    kind: str
    fields: Mapping[str, str]


class Outside(NamedTuple):
    """Something done to the world outside (a mail) at most once, under a claim.

    view: name of the Claims view. act: does it; may raise Blocking (nothing happened, try again), InDoubt (it may
    have happened), Reject (the record asks for something that can't be done). what: for the audit record.
    """

    view: str
    act: Callable[[], Awaitable[None]]
    what: str


Effect: TypeAlias = Publish | Upsert | Audit | Outside


def publish(topic: Topic, type_: str, /, *, output: str | None = None, **data: Any) -> Publish:
    """An event of `type_` with these fields for `topic`; `output` names it within its handler (see surface: msg_id)."""
    return tuple.__new__(Publish, (topic, type_, data, output))  # half the time of Publish(…)
