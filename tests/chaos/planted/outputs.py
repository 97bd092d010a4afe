"""Bugs of steps 5 to 7: what is sent, in which order, and what is waited for."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from itertools import chain
from typing import Any

from pipeline.core import settle
from pipeline.core.outcome import Applied
from pipeline.runtime import unit as unit_module
from pipeline.runtime.app import App
from pipeline.runtime.unit import Unit
from tests.chaos.planted.patching import replaced

BEHIND_S = 4.0


def error_record_skipped(app: App) -> None:
    """Error records aren't sent."""

    def make(original: Any) -> Any:
        def outgoing(*args: Any) -> list[Any]:
            return [out for out in original(*args) if out.topic != app.context.errors_topic]

        return outgoing

    replaced(unit_module, "outgoing", make)


def fresh_ids(_app: App) -> None:
    """An output gets a new msg_id each time that it is made."""
    replaced(settle, "derived_msg_id", lambda _original: lambda *_: str(uuid.uuid4()))


def mark_before_output(_app: App) -> None:
    """Step 6 before step 5: the marks stand when the outputs are sent."""
    publish = Unit.publish
    ends: dict[int, int | None] = {}

    async def record_first(unit: Unit, outcomes: Sequence[Any]) -> None:
        rows = [one.rows for one in outcomes if type(one) is Applied]
        ends[id(unit)] = await unit._append(rows) if rows else None

    async def then_publish(unit: Unit, _batch: Any, outcomes: Sequence[Any], *_: Any) -> int | None:
        await publish(unit, outcomes)
        return ends.pop(id(unit))

    replaced(Unit, "publish", lambda _original: record_first)
    replaced(Unit, "record", lambda _original: then_publish)


def local_before_changelog(_app: App) -> None:
    """Step 7 before step 6: the disk has the rows when they are sent to the changelog."""

    def make(original: Any) -> Any:
        async def publish(unit: Unit, outcomes: Sequence[Any]) -> None:
            await original(unit, outcomes)
            rows = chain.from_iterable(one.rows for one in outcomes if type(one) is Applied)
            unit.store.apply(list(rows), unit.store.offset or 0)

        return publish

    replaced(Unit, "publish", make)


def changelog_not_awaited(_app: App) -> None:
    """Rows are handed to a task in the background; the batch is finished, and the changelog says so, without them."""
    queues: dict[int, asyncio.Task[Any]] = {}

    async def record(unit: Unit, batch: Any, outcomes: Sequence[Any], rest: Sequence[Any]) -> int | None:
        if not outcomes:
            return None
        rows = [one.rows for one in outcomes if type(one) is Applied]
        before, owner = queues.get(id(unit)), unit.owner

        async def later() -> None:
            await asyncio.sleep(BEHIND_S)
            if before is not None:
                await asyncio.wait([before])
            if unit.owner is owner:
                await owner.append_rows(unit.changelog, unit.partition, rows)

        queues[id(unit)] = asyncio.get_running_loop().create_task(later())
        position = rest[0].offset if rest else batch.end
        return await unit._append([], lambda _count: {batch.topic: position})

    replaced(Unit, "record", lambda _original: record)
