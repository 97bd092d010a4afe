"""How far this worker's partitions are behind, in records and in time."""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from faust.types import TP

from pipeline.runtime.transport import LogEnds
from pipeline.runtime.unit import Unit

if TYPE_CHECKING:
    from pipeline.runtime.app import App

log = logging.getLogger("hardparts.web")

ENDS_WITHIN_S = 1.0


class Lag:
    """The gauges of lag; `refresh` brings them up to date."""

    def __init__(self, app: "App", now_ms: Callable[[], int]) -> None:
        self._app, self._now_ms = app, now_ms
        self._ends: dict[TP, LogEnds] = {}

    async def refresh(self) -> None:
        """Ask the broker for the ends, once for all."""
        app, metrics = self._app, self._app.context.metrics
        at = {
            TP(topic, unit.partition): (unit, position)
            for unit in app.units
            for topic, position in unit.positions.items()
        }
        ends = await self._ends_of(set(at))
        metrics.lag.clear()  # partitions that went elsewhere
        metrics.lag_readable.clear()
        metrics.lag_seconds.clear()
        for tp, (unit, position) in at.items():
            end = ends.get(tp)
            if end is None:
                continue
            labels = unit.agent.name, tp.topic, str(tp.partition)
            metrics.lag.labels(*labels).set(max(end.high - position, 0))
            metrics.lag_readable.labels(*labels).set(max(end.stable - position, 0))
            seconds = 0.0 if end.high <= position else self._seconds(unit, tp.topic)
            if seconds is not None:
                metrics.lag_seconds.labels(*labels).set(seconds)

    def _seconds(self, unit: Unit, topic: str) -> float | None:
        oldest_ms = unit.oldest_ms(topic)
        return None if oldest_ms is None else max(self._now_ms() - oldest_ms, 0) / 1000

    async def _ends_of(self, partitions: set[TP]) -> dict[TP, LogEnds]:
        """End offsets from the broker; while it doesn't answer, those that it told last."""
        consumer: Any = self._app._consumer
        try:
            if partitions:
                # Limited twice: in the thread for what is asked of the broker, here for a thread that is busy.
                asked = consumer.group.ends(partitions, ENDS_WITHIN_S)
                self._ends = await asyncio.wait_for(asked, 2 * ENDS_WITHIN_S)
        except Exception as error:  # noqa: BLE001 - metrics answer whatever happens to the broker
            log.debug("end offsets: %s: %s", type(error).__name__, error)
        return self._ends
