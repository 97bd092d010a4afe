"""Bugs of step 8: offsets that are committed too early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from faust.types import TP

from pipeline.core.record import Batch
from pipeline.runtime.app import App
from pipeline.runtime.unit import Unit
from pipeline.runtime.units import Units
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
            await cast(Any, app.consumer).force_commit()
            await original(unit, outcomes)

        return publish

    replaced(Unit, "process", remembering)
    replaced(Unit, "publish", committing)


def commit_what_was_fetched(_app: App) -> None:
    """What is committed is how far the unit has been fed, not how far it got."""
    fed: dict[TP, int] = {}

    def feeding(original: Any) -> Any:
        async def deliver(units: Units, batch: Batch) -> None:
            fed[TP(batch.topic, batch.partition)] = batch.end
            await original(units, batch)

        return deliver

    replaced(Units, "deliver", feeding)
    replaced(Units, "uncommitted", lambda _original: lambda units: dict(fed))


def prefix_acked_wholly(_app: App) -> None:
    """When a record blocks, it and all behind it in the batch are committed with those before it."""

    def make(original: Any) -> Any:
        def complete(unit: Unit, batch: Batch, outcomes: Sequence[Any], todo: Sequence[Any]) -> None:
            original(unit, batch, outcomes, todo)
            unit.positions[batch.topic] = batch.end

        return complete

    replaced(Unit, "complete", make)
