"""A partition changes hands under load: how long until its new owner has put out something.

Three ways: a worker is killed (its session must run out first), a worker is stopped (the survivor takes over at once),
and a static member is restarted on its own disk. Before each kill and each stop the survivor's copies of the
partitions that it doesn't own are deleted, so that it rebuilds them from the whole changelog.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from tests.kafka.feed import WITHOUT_END, Feed
from tests.kafka.trial import Trial
from tests.oracle.generator import Mix, generate
from tests.oracle.journal import Journal
from tests.oracle.process import Worker
from tests.oracle.views import unit_directories

from .kafka_topics import EndOffsets
from .resumption import Resumed, Resumption

USERS = 2_000
FILL_EVENTS = 10_000
RESUMED_WITHIN_S = 120.0
GOALS_S = {"kill": 20.0, "stop": 5.0, "static restart": 8.0}


@dataclass(frozen=True, slots=True)
class Handover:
    """One change of hands: seconds until the fences and the first outputs of all partitions that the worker had owned.

    first_output_s: of the first of these partitions. rows: changelog records of the largest of them.
    """

    how: str
    fence_s: float
    first_output_s: float
    output_s: float
    rows: int


@dataclass(frozen=True, slots=True)
class Failovers:
    """All trials of all ways, and what the judge counted at the end."""

    partitions: int
    guarantee: str
    session_timeout_s: float
    rate: float
    handovers: list[Handover]
    verdict: dict[str, int]

    def percentile(self, how: str, share: float, measure: str = "output_s") -> float:
        """Of one way; share 1 is the maximum."""
        ordered = sorted(getattr(one, measure) for one in self.handovers if one.how == how)
        return float(ordered[ceil(share * len(ordered)) - 1])

    def of(self, how: str) -> list[Handover]:
        """The trials of one way."""
        return [one for one in self.handovers if one.how == how]

    def as_json(self) -> dict[str, Any]:
        """A JSON document with every trial."""
        return {"benchmark": "failover", **asdict(self)}


@dataclass(slots=True)
class Scene:
    """Two workers under load, watched."""

    trial: Trial
    seen: Resumption
    feed: Feed
    say: Callable[[str], None]

    async def handover(self, how: str, number: int) -> Handover:
        """One change of hands, and both workers at work again after it."""
        names = ("one", "two") if number % 2 else ("two", "one")
        victim, survivor = (self.trial.workers[name] for name in names)
        owned = self.trial.owned(victim)
        if how != "static restart":
            _forget(self.trial, survivor, owned)
        await self.feed.more(500)
        rows = max(await _rows(self.trial))
        if how == "static restart":
            await self.trial.stop(victim)
            await self.feed.more(500)
        fault_at_s = time.monotonic()
        if how == "kill":
            victim.process.kill()
        elif how == "stop":
            victim.process.terminate()
        else:
            victim.start()
        resumed = await self.seen.after(fault_at_s, owned, RESUMED_WITHIN_S)
        result = _handover(how, list(resumed.values()), rows)
        self.say(
            f"  {how} {number}: fence {result.fence_s:.2f} s, output of one partition {result.first_output_s:.2f} s, "
            f"of all {result.output_s:.2f} s ({rows:,} rows)"
        )
        if how != "static restart":
            await asyncio.to_thread(victim.process.wait, 30)
            await self.trial.start(victim)
        await self.trial.shared(victim, survivor)
        return result


async def failover(
    trial: Trial, ways: Sequence[str], *, trials: int, rows: int, rate: float, seed: int, say: Callable[[str], None]
) -> tuple[list[Handover], dict[str, int]]:
    """Fill the changelog, then `trials` changes of hands of each way; at the end the judge's verdict."""
    journal = Journal(seed)
    one, two = trial.worker("one"), trial.worker("two")
    await trial.start(one, two)
    await trial.shared(one, two)
    await _fill(trial, rows, journal, say)
    feed = Feed(trial, seed + 1, rate, Mix(events=WITHOUT_END, users=USERS))
    feed.journal = journal
    done: list[Handover] = []
    async with Resumption(trial) as seen, feed:
        scene = Scene(trial, seen, feed, say)
        for how in ways:
            if how == "static restart":
                await _restart_static(trial)
            done += [await scene.handover(how, number) for number in range(1, trials + 1)]
        await feed.end()
    say("the judge reads all of it")
    report = await trial.verdict(journal)
    return done, dict(report.figures)


async def _fill(trial: Trial, rows: int, journal: Journal, say: Callable[[str], None]) -> None:
    """Events until each partition of the changelog has `rows` records: real rows, that the judge can check."""
    say(f"events until each partition of the changelog has {rows:,} records")
    records = generate(journal.seed, Mix(events=WITHOUT_END, users=USERS))
    while min(await _rows(trial)) < rows:
        await trial.write((next(records) for _ in range(FILL_EVENTS)), journal)
        await trial.caught_up()


async def _rows(trial: Trial) -> list[int]:
    async with EndOffsets(trial.cluster.bootstrap, trial.changelog) as ends:
        return list((await ends.by_partition()).values())


async def _restart_static(trial: Trial) -> None:
    """Both workers again, as static members, on their disks."""
    names = list(trial.workers)
    await trial.stop(*trial.workers.values())
    workers = [trial.worker(name, static_membership="true") for name in names]
    await trial.start(*workers)
    await trial.shared(*workers)


def _forget(trial: Trial, survivor: Worker, partitions: Collection[int]) -> None:
    """Delete the copies that a running worker has of partitions that it doesn't own."""
    for number, directory in unit_directories(trial.data, survivor.instance).items():
        if number in partitions:
            shutil.rmtree(directory)


def _handover(how: str, resumed: Sequence[Resumed], rows: int) -> Handover:
    outputs = [one.output_s for one in resumed]
    return Handover(how, max(one.fence_s for one in resumed), min(outputs), max(outputs), rows)
