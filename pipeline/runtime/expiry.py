"""Marks that are past the deduplication horizon are deleted by the unit that owns them, a small slice at a time.

A slice is an errand between two batches: it looks at SLICE_ROWS marks and writes a tombstone for each that may go, like
any row: changelog, acknowledged, then RocksDB. Counts and relations stay; which marks may go is `pipeline.core.expiry`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from pipeline.core.agent import Definition
from pipeline.core.errors import HardpartsError
from pipeline.core.expiry import expires_before_ms, is_expired, outlived, shown
from pipeline.core.idempotence import MARKS
from pipeline.runtime.admin import connect
from pipeline.runtime.unit import Unit

if TYPE_CHECKING:
    from pipeline.runtime.app import App

log = logging.getLogger("hardparts.expiry")

SLICE_ROWS = 1_000
"""Looked at in one go: a few milliseconds of the worker's loop."""
PAUSE_S = 0.05
"""Between two slices of a worker, whatever its units: at most 20,000 marks a second are looked at."""
PASSES_A_HORIZON = 24
PASS_EVERY_S = 1.0, 3600.0


class Pass:
    """The passes over one unit's marks, from the first key to the last, then again after a rest."""

    def __init__(self, unit: Unit, horizon_s: float) -> None:
        self._unit = unit
        self._horizon_ms = int(horizon_s * 1000)
        self._rest_s = min(max(horizon_s / PASSES_A_HORIZON, PASS_EVERY_S[0]), PASS_EVERY_S[1])
        self._cursor: bytes | None = None
        self._next_at_s = 0.0
        self._asked: asyncio.Future[None] | None = None

    @property
    def due(self) -> bool:
        """Whether the next slice can be asked for. A blocked unit has none: it could not do it now."""
        idle = self._asked is None or self._asked.done()
        return idle and self._unit.running and not self._unit.head.blocked and time.monotonic() >= self._next_at_s

    def ask(self) -> None:
        """Have the unit do the next slice between two batches."""
        self._asked = self._unit.errands.ask(self.slice)

    async def slice(self) -> None:
        """Look at the next marks; in a pass where no mark can be past the horizon, at none."""
        unit = self._unit
        before_ms = expires_before_ms(self._horizon_ms, unit.context.now_ms(), unit.newest_ms)
        rows = list(islice(unit.store.scan(MARKS, self._cursor), SLICE_ROWS)) if before_ms else []
        gone = [row for row, mark in rows if is_expired(mark, before_ms)]
        if gone:
            await unit.record_rows([[(row, None)] for row in gone])
            unit.context.metrics.expired.labels(unit.agent.name).inc(len(gone))
        if len(rows) < SLICE_ROWS:
            self._cursor, self._next_at_s = None, time.monotonic() + self._rest_s
        else:
            self._cursor = rows[-1][0] + b"\0"


async def expire(app: "App", horizon_s: float) -> None:
    """Keep every unit of the worker at its passes; say first if a source keeps records for longer than that."""
    for line in await warnings(app, app.definitions, horizon_s):
        log.warning(line)
    passes: dict[Unit, Pass] = {}
    while True:
        units = list(app.units)
        passes = {unit: passes.get(unit) or Pass(unit, horizon_s) for unit in units}
        for one in passes.values():
            if one.due:
                one.ask()
                await asyncio.sleep(PAUSE_S)
        await asyncio.sleep(PAUSE_S)


async def warnings(app: "App", agents: Iterable[Definition], horizon_s: float) -> list[str]:
    """A line for each source whose records outlive their marks; none when the broker doesn't say."""
    sources = {topic.name for agent in agents for topic in agent.sources}
    with contextlib.suppress(HardpartsError):
        async with connect(app.settings, app.cluster_memory) as admin:
            return too_short(horizon_s, await admin.configs(await admin.topics(sources)), sources)
    return []


def too_short(horizon_s: float, configs: dict[str, dict[str, str]], sources: Iterable[str]) -> list[str]:
    """What to say of a horizon that is shorter than the retention of `sources`. configs: topic → settings in force."""
    kept = outlived(horizon_s, {name: configs[name] for name in sources if name in configs})
    return [
        f"{name} keeps records {time_kept}, marks are kept for {shown(horizon_s)} (HARDPARTS_DEDUP_HORIZON_S): "
        "an older record that is read or sent again would be applied again"
        for name, time_kept in kept.items()
    ]
