"""What may become of the sources' logs under a running worker: records deleted before they are read, an end that goes
back because a broker lost its disk, a transaction left open. Each is told in a log line, an alert and a metric.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from faust.types import TP

from pipeline.kafka.contact import Silence, described
from pipeline.runtime.alerts import Alerts
from pipeline.runtime.metrics import Metrics
from pipeline.runtime.transport import Fetched, LogEnds
from pipeline.runtime.units import Units

log = logging.getLogger("hardparts.sources")

LOOK_EVERY_S = 3.0
STANDS_MAX_S = 15.0
"""Longer than any transaction of a writer that is well."""


class SourceLogs:
    """Looks where the sources of the units end.

    ends: of these topic-partitions, from the broker. rewind: have one read again from its beginning; None when that
    can't be done now.
    """

    def __init__(
        self,
        units: Units,
        ends: Callable[[set[TP]], Awaitable[dict[TP, LogEnds]]],
        rewind: Callable[[TP, int], Awaitable[Fetched | None]],
    ) -> None:
        self._units, self._ends, self._rewind = units, ends, rewind
        self._alerts, self._metrics = units.context.alerts, units.context.metrics
        self._high: dict[TP, int] = {}
        self._held: dict[TP, tuple[int, float]] = {}
        self.silence: Silence | None = None

    async def watch(self) -> None:
        """Every few seconds; a broker that doesn't answer is asked again, and `silence` says so."""
        while True:
            now = time.monotonic()
            try:
                await self.look(now)
                self.silence = None
            except Exception as error:  # noqa: BLE001 - whatever the client raises while the broker is unavailable
                since_s = now if self.silence is None else self.silence.since_s
                self.silence = Silence("where the sources end", since_s, described(error))
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self, now: float) -> None:
        """Once. now: time.monotonic."""
        sources = {TP(topic, unit.partition) for unit in self._units for topic in unit.positions}
        for tp in self._held.keys() - sources:
            self._goes_on(tp, released=True)
        for tp in self._high.keys() - sources if sources else ():  # none: a takeover, which a lost broker brings too
            del self._high[tp]
        seen = dict(self._high)
        for tp, (stable, high) in (await self._ends(sources)).items() if sources else ():
            self._look_at_transactions(tp, stable, high, now)
            if high >= seen.get(tp, 0):
                self._high[tp] = high
            elif tp in self._high and (moved := await self._rewind(tp, seen[tp])) is not None:
                self.outside(tp, moved.start, moved.end, high, seen[tp])

    def outside(self, tp: TP, position: int, beginning: int, end: int, was: int | None = None) -> None:
        """What was to be read next, `position`, isn't in the log any more: it goes from `beginning` to `end`.

        was: the end that the log had; without it, `position` is all that is known of that.
        """
        self._high.pop(tp, None)
        if position < beginning:
            records_lost(self._alerts, self._metrics, tp, position, beginning)
            return
        log.error(
            "%s[%d]: the log reached %d and ends at %d now: records are lost; reading it again from its beginning, %d",
            *tp, was or position, end, beginning,
        )  # fmt: skip
        self._metrics.rewinds.labels(tp.topic, str(tp.partition)).inc()
        self._alerts.happened(
            f"rewound/{tp.topic}/{tp.partition}", topic=tp.topic, partition=tp.partition, position=position,
            to=beginning, was=was or position, end=end,
        )  # fmt: skip

    def _look_at_transactions(self, tp: TP, stable: int, high: int, now: float) -> None:
        at, since = self._held.get(tp, (None, now))
        if high <= stable or at != stable:
            self._goes_on(tp)
        if high > stable:
            self._held[tp] = stable, since if at == stable else now
            if now - self._held[tp][1] >= STANDS_MAX_S:
                where = {"topic": tp.topic, "partition": tp.partition}
                self._alerts.opened(_open_transaction(tp), **where, offset=stable, held_back=high - stable)

    def _goes_on(self, tp: TP, **about: bool) -> None:
        if self._held.pop(tp, None) is not None:
            self._alerts.closed(_open_transaction(tp), **about)


def records_lost(alerts: Alerts, metrics: Metrics, tp: TP, position: int, beginning: int) -> None:
    """Say that the broker has deleted the records from `position` up to `beginning`, which nobody had read."""
    if position >= beginning:
        return
    log.error("%s[%d]: records %d to %d expired before they were read", *tp, position, beginning - 1)
    metrics.records_lost.labels(tp.topic, str(tp.partition)).inc(beginning - position)
    about = {"topic": tp.topic, "partition": tp.partition, "from": position, "to": beginning - 1}
    alerts.happened(f"records-lost/{tp.topic}/{tp.partition}", **about)


def _open_transaction(tp: TP) -> str:
    return f"open-transaction/{tp.topic}/{tp.partition}"
