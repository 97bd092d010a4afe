"""Bugs of what is applied: deduplication, losses, order, rows that are deleted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pipeline.core.outcome import Candidate, Duplicate, Ignored, Rejected
from pipeline.runtime import handle
from pipeline.runtime.app import App
from pipeline.runtime.store import Store
from pipeline.runtime.unit import Unit
from tests.chaos.planted.patching import replaced

DROPPED = 1_000
SWAPPED = 20


def dedup_off(_app: App) -> None:
    """No mark is looked up, and none that is found counts."""
    replaced(Unit, "deduplicate", lambda _original: lambda unit, decided: {})
    replaced(handle, "already_seen", lambda _original: lambda candidate, mark: None)


def drop_one_in_a_thousand(_app: App) -> None:
    """Every thousandth record of a worker is passed over."""
    seen = 0

    def make(original: Any) -> Any:
        def decode(unit: Unit, records: Sequence[Any]) -> list[Any]:
            nonlocal seen
            decided = list(original(unit, records))
            for index in range(len(decided)):  # a prefix of the records
                seen += 1
                if seen % DROPPED == 0:
                    decided[index] = Ignored(records[index])
            return decided

        return decode

    replaced(Unit, "decode", make)


def swap_two(_app: App) -> None:
    """In every twentieth batch, two events of one user change places."""
    batches = 0

    def make(original: Any) -> Any:
        def decode(unit: Unit, records: Sequence[Any]) -> list[Any]:
            nonlocal batches
            batches += 1
            decided = list(original(unit, records))
            return _swapped(decided) if batches % SWAPPED == 0 else decided

        return decode

    replaced(Unit, "decode", make)


def _swapped(decided: list[Any]) -> list[Any]:
    """With the first two comments of one user in each other's place."""
    places: dict[str, int] = {}
    for index, item in enumerate(decided):
        if type(item) is Candidate and item.event.type == "comment.created":
            first = places.setdefault(item.event.key, index)
            if first != index:
                decided[first], decided[index] = item, decided[first]
                return decided
    return decided


def rejected_id_marked(_app: App) -> None:
    """The msg_id of a rejected record counts as seen."""
    seen: set[str] = set()

    def make(original: Any) -> Any:
        def decode(unit: Unit, records: Sequence[Any]) -> list[Any]:
            decided = list(original(unit, records))
            for index, item in enumerate(decided):
                if type(item) is Rejected:
                    with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                        seen.add(str(json.loads(item.record.value)["msg_id"]).lower())
                elif type(item) is Candidate and item.event.msg_id in seen:
                    decided[index] = Duplicate(item.record, item.event)
            return decided

        return decode

    replaced(Unit, "decode", make)


def tombstone_ignored(_app: App) -> None:
    """Rows that were deleted stay in the local state."""

    def make(original: Any) -> Any:
        def apply(store: Store, rows: Any, *where: Any) -> None:
            original(store, [(key, value) for key, value in rows if value is not None], *where)

        return apply

    replaced(Store, "apply", make)
