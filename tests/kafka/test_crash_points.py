"""A worker is killed at each named point of a record's path; whatever it had done by then, the end is right."""

from __future__ import annotations

import asyncio
import signal
from collections import defaultdict
from pathlib import Path

import pytest

from tests.kafka import sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.feed import Feed
from tests.kafka.trial import GUARANTEES, Trial
from tests.oracle.generator import Mix, generate
from tests.oracle.process import Worker
from tests.oracle.records import COMMENT_COUNTS, SOURCES
from tests.oracle.truth import read

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
MIX = Mix(events=8_000)
BATCH = "200"
FIFTH = 5
"""Of about forty batches: some are finished and committed by then, and most are not."""


async def died_by_sigkill(worker: Worker) -> None:
    """The armed point was reached."""
    assert await asyncio.to_thread(worker.process.wait, 60) == -signal.SIGKILL, worker.end_of_log()


async def in_mid_stream(trial: Trial) -> None:
    """Not everything was committed when it died."""
    ends = {
        (topic, number): len(records)
        for topic, log in (await read(trial.cluster.bootstrap, SOURCES)).items()
        for number, records in log.items()
    }
    assert sum((await trial.committed()).values()) < sum(ends.values())


@pytest.mark.parametrize("guarantee", GUARANTEES)
@pytest.mark.parametrize("point", ["after-outputs", "after-changelog", "after-rocksdb"])
async def test_killed_on_the_path_of_a_batch(kafka: KafkaCluster, tmp_path: Path, point: str, guarantee: str) -> None:
    seed = sizes.seed()
    async with Trial(kafka, tmp_path, batch_records_max=BATCH, processing_guarantee=guarantee) as trial:
        journal = await trial.write(generate(seed, MIX))
        crashing = trial.worker("one", crash_at=f"{point}:{FIFTH}").start()
        await died_by_sigkill(crashing)
        await in_mid_stream(trial)
        await trial.start(trial.worker("one"))
        await trial.verdict(journal)


async def test_a_crash_between_output_and_commit_repeats_the_same_msg_ids(
    kafka: KafkaCluster, tmp_path: Path
) -> None:  # O3
    """On an empty disk as well: the ids come from the input, not from what the worker remembers."""
    seed = sizes.seed()
    async with Trial(kafka, tmp_path, batch_records_max=BATCH) as trial:
        journal = await trial.write(generate(seed, MIX))
        crashing = trial.worker("one", crash_at=f"after-outputs:{FIFTH}").start()
        await died_by_sigkill(crashing)
        trial.wipe(crashing)
        await trial.start(trial.worker("one"))
        report = await trial.verdict(journal)  # also: no output whose id doesn't follow from an input's
        log = (await read(kafka.bootstrap, [COMMENT_COUNTS]))[COMMENT_COUNTS]
    copies: dict[bytes | None, int] = defaultdict(int)
    for records in log.values():
        for record in records:
            copies[record.value] += 1
    repeated = [value for value, times in copies.items() if times > 1]
    assert repeated, "the crash came between output and commit"
    assert sum(copies.values()) - len(copies) == report.figures["comment-counts: physical duplicates"]


async def test_killed_in_recovery(kafka: KafkaCluster, tmp_path: Path) -> None:
    seed = sizes.seed()
    records = generate(seed, MIX)
    async with Trial(kafka, tmp_path) as trial:
        journal = await trial.write(next(records) for _ in range(MIX.events // 2))
        first = trial.worker("one")
        await trial.start(first)
        await trial.caught_up()
        first.kill()
        trial.wipe(first)
        await trial.write(records, journal)
        for _ in range(2):
            await died_by_sigkill(trial.worker("one", crash_at="in-recovery:1").start())
        await in_mid_stream(trial)
        await trial.start(trial.worker("one"))
        await trial.verdict(journal)


async def test_killed_in_a_rebalance_under_load(kafka: KafkaCluster, tmp_path: Path) -> None:
    seed = sizes.seed()
    async with Trial(kafka, tmp_path) as trial, Feed(trial, seed, rate=2_000) as feed:
        crashing = trial.worker("one", crash_at="in-rebalance:1")
        await trial.start(crashing)
        await feed.more(2_000)
        assert crashing.alive, "the point lies in a rebalance that takes something away"
        joining = trial.worker("two").start()
        await died_by_sigkill(crashing)
        assert feed.flowing
        await asyncio.to_thread(joining.wait_ready, 60)
        again = trial.worker("one")
        await trial.start(again)
        await trial.shared(again, joining)
        await feed.more(2_000)
        await trial.verdict(await feed.end())
