"""Looking after what would otherwise fail in silence: a broker that takes nothing, a group that refuses this worker."""

import asyncio
import time
from collections.abc import Callable

from pipeline.kafka.memory import OtherCluster
from pipeline.runtime.recovery import keep_fresh
from pipeline.runtime.units import Units

EVERY_S = 1.0
PLACES_SHOWN = 10
WAITING_MAX_S = 15.0
"""Longer than a producer waits for an unknown topic (10 s): that is its unit's own alert."""


async def watch(
    units: Units,
    group_failure: Callable[[], BaseException | None],
    takeover_trouble: Callable[[], tuple[float, str] | None],
    other_cluster: Callable[[], OtherCluster | None] = lambda: None,
) -> None:
    """Every second: one alert `broker` while a unit has waited for an ack longer than WAITING_MAX_S, one `takeover`
    while a takeover has tried for that long; stop the process when the group has refused it for good (a session
    timeout out of the broker's bounds, say), and when another cluster answers in place of ours.

    takeover_trouble: since when (time.monotonic) a takeover has been trying, and what is in its way. other_cluster:
    set while the bootstrap addresses lead to one.
    """
    alerts = units.context.alerts
    while True:
        stranger = other_cluster()
        if stranger is not None:
            alerts.other_cluster(stranger)
            units.context.fatal(stranger)
            return
        failure = group_failure()
        if failure is not None:
            units.context.fatal(failure)
            return
        now = time.monotonic()
        waits = [now - unit.owner.waiting_since for unit in units if unit.owner.waiting_since is not None]
        longest_s = max(waits, default=0.0)
        if longest_s > WAITING_MAX_S:
            alerts.opened("broker", waited_s=round(longest_s, 1), units=len(waits), waits_for=_waited_for(units))
        elif not waits:
            alerts.closed("broker")
        trouble = takeover_trouble()
        if trouble is None:
            alerts.closed("takeover")
        elif (tried_s := now - trouble[0]) > WAITING_MAX_S:
            alerts.opened("takeover", tried_s=round(tried_s, 1), reason=trouble[1])
        alerts.close_events(now)
        if not waits and units.context.holds_lease():  # cut off from the broker, a copy grows old
            keep_fresh(unit.store for unit in units)
        await asyncio.sleep(EVERY_S)


def _waited_for(units: Units) -> list[str]:
    """`topic[partition]` of what hasn't been acknowledged, the first few."""
    return sorted({place for unit in units for place in unit.owner.waits_for})[:PLACES_SHOWN]
