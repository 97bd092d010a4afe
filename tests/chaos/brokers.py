"""What is done to brokers: the one with a certain role is killed, and started again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tests.chaos.plan import Fault
from tests.kafka import requests
from tests.kafka.trial import Trial
from tests.kafka.waiting import answered

ADVANCE = 100
"""Records that the group must get on by while one of three brokers is away: two are enough."""


async def broker_is_killed(trial: Trial, fault: Fault, strikes: Callable[[], None]) -> str:
    """SIGKILL to the broker with the fault's role; returns when it is back and in sync."""
    victim = await _holder(trial, fault.role)
    done = sum((await trial.committed()).values())
    await asyncio.to_thread(trial.cluster.kill_broker, victim)
    strikes()
    began = time.monotonic()
    if fault.away_s:
        await asyncio.sleep(fault.away_s)
    else:
        await trial.committed_more_than(done + ADVANCE, timeout_s=90)
    advanced_s = time.monotonic() - began
    await asyncio.to_thread(trial.cluster.start_broker, victim, 120)
    if fault.away_s:
        return f"the only broker was away for {advanced_s:.1f} s"
    return f"broker {victim}; the group got on by {ADVANCE} records within {advanced_s:.1f} s"


async def _holder(trial: Trial, role: str) -> int:
    match role:
        case "leader":
            return await trial.leader_of_changelog()
        case "coordinator":
            return await trial.coordinator()
        case "controller":
            return await asyncio.to_thread(trial.cluster.controller)
        case "transactions":
            unit = f"{trial.app_id}/{trial.agent}/0"
            return await answered(lambda: requests.coordinator(trial.cluster.bootstrap, unit, of_transactions=True))
    return next(iter(trial.cluster.nodes))
