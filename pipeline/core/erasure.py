"""Erasing one key (D10): which rows are its own, in which order agents are asked, and until when the rest is kept."""

from collections.abc import Iterable, Iterator, Mapping

from pipeline.core.agent import Definition
from pipeline.core.idempotence import MARKS
from pipeline.core.state import SEPARATOR
from pipeline.core.topic import cleanup_policies
from pipeline.core.views import Claims, View

MARKS_TABLE = "marks"
"""What marks are called in a report: they are rows of no view."""


def of_key(agent: Definition, key: str) -> dict[str, tuple[bytes, bytes]]:
    """Table → the row that is the key's own in it, and what the key's rows with a sub-key begin with.

    Claims stand under their msg_id alone: they go with the marks that name them.
    """
    tables = {view.name: view.prefix + key.encode() for view in agent.views if not isinstance(view, Claims)}
    tables[MARKS_TABLE] = MARKS + key.encode()
    return {name: (row, row + SEPARATOR) for name, row in tables.items()}


def claims_of(mark_row: bytes, views: Iterable[View]) -> Iterator[tuple[str, bytes]]:
    """View and row of each claim that the message of this mark may have."""
    msg_id = mark_row.rpartition(SEPARATOR)[2].decode()
    return ((view.name, view.claim_row(msg_id)) for view in views if isinstance(view, Claims))


def upstream_first(agents: Iterable[Definition]) -> list[Definition]:
    """Agents such that one that writes a topic comes before those that read it, where there is no circle."""
    left, ordered = list(agents), list[Definition]()
    while left:
        free = [one for one in left if not any(_feeds(other, one) for other in left if other is not one)]
        taken = free[0] if free else left[0]
        left.remove(taken)
        ordered.append(taken)
    return ordered


def _feeds(one: Definition, other: Definition) -> bool:
    return bool({topic.name for topic in one.outputs} & {topic.name for topic in other.sources})


def kept_until_ms(newest_ms: int, config: Mapping[str, str]) -> int | None:
    """When the broker has removed a record of this time at the latest; None: not by time.

    Kafka removes whole segments, so the time until a segment is closed (`segment.ms`) comes on top of the retention.
    """
    retention_ms = int(config.get("retention.ms", -1))
    if retention_ms < 0 or "delete" not in cleanup_policies(config):
        return None
    return newest_ms + retention_ms + int(config.get("segment.ms", 0))
