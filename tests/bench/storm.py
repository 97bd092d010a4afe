"""A second worker joins and leaves, again and again, under load: everything must advance in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tests.kafka.feed import Feed
from tests.kafka.trial import Trial
from tests.oracle.generator import Mix
from tests.oracle.lag import lag_reader
from tests.oracle.records import SOURCES, USER_EVENTS

WITHOUT_END = 10**9
USERS = 2_000
LAG_ZERO_WITHIN_S = 300.0


@dataclass(frozen=True, slots=True)
class Interval:
    """From one change of the group to the next: what changed, and how far each partition of the input has come."""

    change: str
    seconds: float
    advances: dict[int, int]


@dataclass(frozen=True, slots=True)
class Storm:
    """The whole of it. lag: when the last change was made and the input ended; lag_zero_s: seconds from then."""

    partitions: int
    guarantee: str
    seconds: float
    every_s: float
    rate: float
    intervals: list[Interval]
    events_per_s: float
    lag: int
    lag_zero_s: float
    verdict: dict[str, int]

    @property
    def stood_still(self) -> int:
        """In how many cases a partition didn't advance between two changes."""
        return sum(advance <= 0 for interval in self.intervals for advance in interval.advances.values())

    @property
    def least_advance(self) -> int:
        """The smallest advance of a partition between two changes, in records."""
        return min(advance for interval in self.intervals for advance in interval.advances.values())

    def as_json(self) -> dict[str, Any]:
        """A JSON document with every interval."""
        sums = {"stood_still": self.stood_still, "least_advance": self.least_advance}
        return {"benchmark": "storm", **asdict(self), **sums}


async def storm(
    trial: Trial, *, seconds: float, every_s: float, rate: float, guarantee: str, seed: int, say: Callable[[str], None]
) -> Storm:
    """Let worker `two` join and leave in turns every `every_s`, for `seconds`; then lag 0 and the judge's verdict."""
    one, two = trial.worker("one"), trial.worker("two")
    await trial.start(one)
    intervals: list[Interval] = []
    async with Feed(trial, seed, rate, Mix(events=WITHOUT_END, users=USERS)) as feed:
        await feed.more(1_000)
        first, first_at = await _positions(trial), time.monotonic()
        before, due = first, first_at
        while due - first_at < seconds:
            change = "join" if len(intervals) % 2 == 0 else "leave"
            began = time.monotonic()
            if change == "join":
                two.start()
            else:
                await trial.stop(two)
            due += every_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            after = await _positions(trial)
            advances = {n: after.get(n, 0) - before.get(n, 0) for n in range(trial.partitions)}
            intervals.append(Interval(change, time.monotonic() - began, advances))
            say(f"  {due - first_at:.0f} s, {change}: advanced by {sorted(advances.values())}")
            before = after
        took_s, ended = time.monotonic() - first_at, await _positions(trial)
        journal = await feed.end()
    async with lag_reader(trial.cluster.bootstrap, trial.app_id, SOURCES) as reader:
        lag = sum(end - committed for committed, end in (await reader.behind()).values())
    lag_zero_s = await trial.caught_up(LAG_ZERO_WITHIN_S)
    say(f"lag {lag:,} at the end, 0 after {lag_zero_s:.1f} s; the judge reads all of it")
    report = await trial.verdict(journal)
    return Storm(
        partitions=trial.partitions,
        guarantee=guarantee,
        seconds=seconds,
        every_s=every_s,
        rate=rate,
        intervals=intervals,
        events_per_s=(sum(ended.values()) - sum(first.values())) / took_s,
        lag=lag,
        lag_zero_s=lag_zero_s,
        verdict=dict(report.figures),
    )


async def _positions(trial: Trial) -> dict[int, int]:
    """Partition → committed offset of the topic that nearly all events are in."""
    return {number: offset for (topic, number), offset in (await trial.committed()).items() if topic == USER_EVENTS}
