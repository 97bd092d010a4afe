"""Looks after what would fail in silence: a cluster that doesn't answer, a group that refuses this worker."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from pipeline.core.errors import Misconfigured
from pipeline.kafka.contact import Silence
from pipeline.kafka.memory import ClusterMemory
from pipeline.runtime.recovery import keep_fresh
from pipeline.runtime.security import NotLetIn
from pipeline.runtime.units import Units

log = logging.getLogger("hardparts.watch")

EVERY_S = 1.0
FROZEN_S = 5.0
"""A look that comes so late was kept back in this process, and the broker has had no chance to answer meanwhile."""
PLACES_SHOWN = 10
ANSWERED_WITHIN_S = 2.0
"""A fetch is nearly always under way, and on a busy worker an ack is waited for."""
ROTATION_MAX_S = 300.0
"""A password is changed at the broker and in its file one after the other; an orchestrator may take minutes for it."""
WAITING_MAX_S = 15.0
"""Longer than a producer waits for an unknown topic (10 s): that is its unit's own alert."""


class Watch:
    """Looks every second. Opens the alert `broker` while Kafka leaves unanswered, for longer than WAITING_MAX_S, what
    this worker lives by (fetches, heartbeats, metadata, the ends of its sources) or what a unit wants acknowledged, and
    `takeover` while a takeover has tried for that long. Stops the process when the group has refused it for good (a
    session timeout out of the broker's bounds, say), when the brokers don't let it in any more, and when another
    cluster answers in place of ours.

    takeover_trouble: since when (time.monotonic) a takeover has been trying, and what is in its way. sources_silence:
    since when nobody tells where the sources end. let_in: asks the configured brokers whether one lets us in; raises
    NotLetIn. refused_max_s: how long none may before the process ends. tell_differences: called each time, for the
    alert `definitions`. silence: what Kafka hasn't answered for longer than WAITING_MAX_S, acknowledgements apart.
    """

    def __init__(
        self,
        units: Units,
        cluster: ClusterMemory,
        *,
        group_failure: Callable[[], BaseException | None],
        takeover_trouble: Callable[[], tuple[float, str] | None],
        sources_silence: Callable[[], Silence | None],
        let_in: Callable[[], Awaitable[object]],
        refused_max_s: float = WAITING_MAX_S,
        tell_differences: Callable[[], None] = lambda: None,
    ) -> None:
        self._units, self._cluster, self._alerts = units, cluster, units.context.alerts
        self._group_failure, self._takeover_trouble = group_failure, takeover_trouble
        self._sources_silence, self._let_in, self._tell_differences = sources_silence, let_in, tell_differences
        self.silence: Silence | None = None
        self._refused_max_s, self._asked_s = refused_max_s, 0.0

    async def run(self) -> None:
        """Until the process ends."""
        looked_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            waits = [now_s - unit.owner.waiting_since for unit in self._units if unit.owner.waiting_since is not None]
            if now_s - looked_s < FROZEN_S:
                error = self._cluster.other or self._group_failure() or await self._not_let_in(now_s)
                if error is not None:
                    self._alerts.other_cluster(self._cluster.other)
                    self._units.context.fatal(error)
                    return
                self._look_at_kafka(now_s, waits)
                self._look_at_takeover(now_s)
                self._tell_differences()
            looked_s = now_s
            self._alerts.close_events(now_s)
            if not waits and self._units.context.holds_lease():  # cut off, a copy grows old
                keep_fresh(unit.store for unit in self._units)
            await asyncio.sleep(EVERY_S)

    def told(self) -> str:
        """What Kafka doesn't answer, and for how long, for people; "" while it answers."""
        silence = self.silence
        if silence is None:
            return ""
        return (
            f"Kafka has not answered for {time.monotonic() - silence.since_s:.0f} s ({silence.what}): {silence.error}"
        )

    def _look_at_kafka(self, now_s: float, waits: list[float]) -> None:
        """waits: for how long each unit that waits for an ack has waited."""
        silences = [one for one in (self._cluster.contact.longest_silence(), self._sources_silence()) if one]
        longest = min(silences, key=lambda one: one.since_s, default=None)
        silent_s = now_s - longest.since_s if longest is not None else 0.0
        self.silence = longest if silent_s > WAITING_MAX_S else None
        waited_s = max(waits, default=0.0)
        acks: dict[str, Any] = {"units": len(waits), "waits_for": self._waited_for()}
        if (told := self.silence) is not None:
            about = {"waited_s": round(silent_s, 1), "unanswered": told.what, "error": told.error}
            self._alerts.opened("broker", **about, **acks)
        elif waited_s > WAITING_MAX_S:
            self._alerts.opened("broker", waited_s=round(waited_s, 1), **acks)
        elif max(waited_s, silent_s) < ANSWERED_WITHIN_S:
            self._alerts.closed("broker")

    def _look_at_takeover(self, now_s: float) -> None:
        trouble = self._takeover_trouble()
        if trouble is None:
            self._alerts.closed("takeover")
        elif (tried_s := now_s - trouble[0]) > WAITING_MAX_S:
            self._alerts.opened("takeover", tried_s=round(tried_s, 1), reason=trouble[1])

    async def _not_let_in(self, now_s: float) -> BaseException | None:
        """Why no broker lets this worker in any more: its password or certificate was changed without it."""
        refusal, silence = self._cluster.contact.refusal, self.silence
        if silence is None or not refusal or now_s - self._asked_s < WAITING_MAX_S:
            return None
        self._asked_s = now_s
        log.warning("a broker refuses this worker: %s; asking each of the configured ones", refusal)
        try:
            await self._let_in()
        except NotLetIn as error:
            if now_s - silence.since_s > self._refused_max_s:
                return error
            log.warning("%s", error)
        except Misconfigured as error:  # the password's file is being written
            log.warning("%s", error)
        return None

    def _waited_for(self) -> list[str]:
        """`topic[partition]` of what hasn't been acknowledged, the first few."""
        return sorted({place for unit in self._units for place in unit.owner.waits_for})[:PLACES_SHOWN]
