"""The scenarios that bring the bugs out: short runs of the product, each of which is right when nothing is planted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import dropwhile, islice

from tests.chaos.crew import Crew
from tests.chaos.launch import launched
from tests.kafka import logs, pages, requests
from tests.kafka.feed import Feed
from tests.kafka.trial import Trial
from tests.kafka.waiting import until
from tests.oracle.generator import Made, Mix, generate
from tests.oracle.journal import Journal
from tests.oracle.process import Worker
from tests.oracle.records import COMMENT_COUNTS, USER_EVENTS
from tests.oracle.truth import read

MIX = Mix(events=6_000, users=60, duplicates=0.05, poison=0.04, corrected=0.9)
ONE_TOPIC = replace(MIX, team=0.0)
"""So that every batch of a backlog is a full one."""
RATE = 2_000.0
BATCH = "50"
PARTITIONS = 2
PASSES = 20
"""Of the armed point: a third of the batches of the backlog."""
SMALL_BYTES, LARGE_BYTES = "200", "1048588"


class Planted(Trial):
    """A trial all of whose workers have the bug; none when `bug` is empty."""

    bug = ""

    def worker(self, instance: str, **settings: str) -> Worker:
        worker = super().worker(instance, **settings)
        return launched(worker, CHAOS_PLANTED=self.bug) if self.bug else worker


@dataclass(frozen=True)
class Stage:
    """What a scenario plays on."""

    trial: Planted
    seed: int

    @property
    def crew(self) -> Crew:
        """For its waiting only."""
        return Crew(self.trial)

    def feed(self) -> Feed:
        """Input in the background."""
        return Feed(self.trial, self.seed, RATE, MIX)


Scenario = Callable[[Stage], Awaitable[Journal]]


async def stream(stage: Stage) -> Journal:
    """One worker, duplicates, rejected records whose msg_ids come again mended; it is killed once."""
    worker = stage.trial.worker("one")
    await stage.trial.start(worker)
    async with stage.feed() as feed:
        await feed.reached(MIX.events // 2)
        worker.kill()
        worker.start()
        return await feed.rest()


async def crash_before_the_changelog(stage: Stage) -> Journal:
    """A backlog; killed between outputs and changelog of a full batch, started again on the same disk."""
    records = generate(stage.seed, ONE_TOPIC)
    journal = await stage.trial.write(islice(records, MIX.events // 2))
    await stage.crew.struck(stage.trial.worker("one", crash_at=f"after-outputs:{PASSES}").start())
    assert sum((await stage.trial.committed()).values()) < MIX.events // 2, "it came after the input's end"
    await stage.trial.start(stage.trial.worker("one"))
    return await stage.trial.write(records, journal)


async def back_on_an_old_disk(stage: Stage) -> Journal:
    """One worker leaves, another one works meanwhile, the first comes back with the disk that it had."""
    records, journal = generate(stage.seed, MIX), Journal(stage.seed)
    for name in ("one", "two"):
        worker = stage.trial.worker(name)
        await stage.trial.write(islice(records, MIX.events // 3), journal)
        await stage.trial.start(worker)
        await stage.trial.caught_up()
        await stage.trial.stop(worker)
    await stage.trial.start(stage.trial.worker("one"))
    return await stage.trial.write(records, journal)


async def zombie(stage: Stage) -> Journal:
    """Stopped right before it sends the rows of a full batch; goes on when its successor is far ahead."""
    records = generate(stage.seed, ONE_TOPIC)
    journal = await stage.trial.write(islice(records, MIX.events // 2))
    frozen = launched(stage.trial.worker("one"), CHAOS_STOP_AT_SEND=str(PASSES)).start()
    await stage.crew.stopped(frozen)
    other = stage.trial.worker("two")
    await stage.trial.start(other)
    await stage.trial.shared(other)
    await stage.trial.write(records, journal)
    await stage.trial.caught_up()
    frozen.thaw()
    await stage.trial.rejoined(frozen, 1)
    return journal


async def blocked_then_killed(stage: Stage) -> Journal:
    """A backlog whose comments wait for a dependency; killed while it waits, with the records before them committed."""
    trial, away = stage.trial, stage.trial.directory / "away"
    records = dropwhile(_waits, generate(stage.seed, MIX))
    journal = await trial.write(islice(records, MIX.events // 2))
    away.touch()
    worker = launched(trial.worker("one", batch_records_max="1000"), CHAOS_AWAY=str(away))
    await trial.start(worker)

    async def blocked() -> bool:
        return len((await pages.ready(worker)).get("blocked", [])) == PARTITIONS

    await until(blocked, 30, "every unit is blocked")
    await until(lambda: _committed(trial), 30, "what stands before the comments is committed")
    worker.kill()
    away.unlink()
    await trial.start(trial.worker("one"))
    return await trial.write(records, journal)


def _waits(record: Made) -> bool:
    """Whether nothing could be committed, were this the first record of the input."""
    return record.kind == "comment.created" or record.topic != USER_EVENTS


async def _committed(trial: Trial) -> bool:
    return sum((await trial.committed()).values()) > 0


async def refused_by_the_topic(stage: Stage) -> Journal:
    """An output topic refuses what is sent for a while: produce errors that aren't retried."""
    trial, records = stage.trial, generate(stage.seed, MIX)
    worker = trial.worker("one")
    await trial.start(worker)
    journal = await trial.write(islice(records, MIX.events // 3))
    await trial.caught_up()
    await _limit(trial, SMALL_BYTES)
    await trial.write(islice(records, MIX.events // 3), journal)
    await until(lambda: "MessageSizeTooLarge" in worker.end_of_log(100_000), 60, "a produce error")
    await _limit(trial, LARGE_BYTES)
    return await trial.write(records, journal)


async def _limit(trial: Trial, size: str) -> None:
    await requests.configure_topic(trial.cluster.bootstrap, COMMENT_COUNTS, {"max.message.bytes": size})


async def changelog_cut(stage: Stage) -> Journal:
    """The second half of the changelog is lost with the broker, and the worker's disk too; the group's offsets stay."""
    trial, records = stage.trial, generate(stage.seed, MIX)
    journal = await trial.write(islice(records, MIX.events // 2))
    worker = trial.worker("one")
    await trial.start(worker)
    await trial.caught_up()
    await trial.stop(worker)
    trial.wipe(worker)
    log = (await read(trial.cluster.bootstrap, [trial.changelog], "read_committed"))[trial.changelog]
    trial.cluster.kill_broker(1)
    for partition, rows in log.items():
        assert logs.keep_below(trial.cluster, trial.changelog, partition, rows[len(rows) // 2].offset) > 0
    trial.cluster.start_broker(1)
    await trial.start(worker)
    return await trial.write(records, journal)


SCENARIOS: dict[str, Scenario] = {
    "killed once": stream,
    "killed before the changelog": crash_before_the_changelog,
    "back on an old disk": back_on_an_old_disk,
    "zombie": zombie,
    "killed while blocked": blocked_then_killed,
    "refused by a topic": refused_by_the_topic,
    "changelog cut": changelog_cut,
}

BROUGHT_OUT_BY = {
    "dedup-off": "killed once",
    "drop-one-in-1000": "killed once",
    "swap-two": "killed once",
    "rejected-id-marked": "killed once",
    "error-record-skipped": "killed once",
    "fresh-ids": "killed once",
    "tombstone-ignored": "killed once",
    "commit-before-send": "killed before the changelog",
    "commit-what-was-fetched": "killed while blocked",
    "mark-before-output": "killed before the changelog",
    "local-before-changelog": "killed before the changelog",
    "changelog-not-awaited": "killed once",
    "stale-restore": "back on an old disk",
    "fence-off": "zombie",
    "prefix-acked-wholly": "killed while blocked",
    "producer-reused": "refused by a topic",
    "positions-not-written": "changelog cut",
}


def stage_for(trial: Planted, bug: str, seed: int) -> Stage:
    """A stage whose workers have `bug`."""
    trial.bug = bug
    return Stage(trial, seed)
