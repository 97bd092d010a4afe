"""Bugs of steps 6 and 8: positions that are said or committed too early, or not at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

from pipeline.core.record import Batch
from pipeline.runtime import takeover
from pipeline.runtime.app import App
from pipeline.runtime.unit import Unit
from tests.chaos.planted.patching import replaced


def commit_before_send(app: App) -> None:
    """A batch is committed before its outputs are sent."""
    batches: dict[int, Batch] = {}

    def remembering(original: Any) -> Any:
        async def process(unit: Unit, batch: Batch) -> None:
            batches[id(unit)] = batch
            await original(unit, batch)

        return process

    def committing(original: Any) -> Any:
        async def publish(unit: Unit, outcomes: Sequence[Any]) -> None:
            batch = batches[id(unit)]
            unit.positions[batch.topic] = batch.end
            await unit._say_where_it_stands()
            await cast(Any, app.consumer).force_commit()
            await original(unit, outcomes)

        return publish

    replaced(Unit, "process", remembering)
    replaced(Unit, "publish", committing)


def commit_what_was_fetched(_app: App) -> None:
    """What the changelog and the group are told is how far the unit has been fed, not how far it got."""
    fed: dict[int, dict[str, int]] = defaultdict(dict)

    def feeding(original: Any) -> Any:
        async def deliver(unit: Unit, batch: Batch) -> None:
            fed[unit.partition][batch.topic] = batch.end
            await original(unit, batch)

        return deliver

    def appending(original: Any) -> Any:
        async def append(unit: Unit, events: Any, until: Any = None) -> int:
            end: int = await original(unit, events, until and (lambda _count: dict(fed[unit.partition])))
            return end

        return append

    replaced(Unit, "deliver", feeding)
    replaced(Unit, "_append", appending)


def prefix_acked_wholly(_app: App) -> None:
    """When a record blocks, it and all behind it in the batch are finished with those before it."""

    def make(original: Any) -> Any:
        async def record(unit: Unit, batch: Batch, outcomes: Sequence[Any], _rest: Sequence[Any]) -> Any:
            return await original(unit, batch, outcomes, [])

        return record

    replaced(Unit, "record", make)


def positions_not_written(_app: App) -> None:
    """The changelog doesn't say where its rows end; where a unit starts is left to the group's offsets."""

    def appending(original: Any) -> Any:
        async def append(unit: Unit, events: Any, _until: Any = None) -> int:
            end: int = await original(unit, events, None) if any(events) else (unit.store.offset or 0)
            return end

        return append

    replaced(Unit, "_append", appending)
    replaced(Unit, "recorded", lambda _original: property(lambda unit: dict(unit.positions)))
    replaced(takeover, "claim", lambda _original: _nothing)


async def _nothing(_unit: Unit, _starting: Any) -> None:
    """No claim is written."""
