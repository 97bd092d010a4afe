"""Workers are killed, and restarted on the same disk and on an empty one: nothing lost, nothing twice, all in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kafka import sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.feed import WITHOUT_END, Feed
from tests.kafka.trial import Trial
from tests.oracle.generator import Mix, generate
from tests.oracle.journal import Journal
from tests.oracle.report import Report

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


@pytest.mark.parametrize("guarantee", ["at_least_once", pytest.param("exactly_once", marks=pytest.mark.versions)])
async def test_a_worker_is_killed_in_mid_stream_and_restarted_on_its_disk_and_on_an_empty_one(
    kafka: KafkaCluster, tmp_path: Path, guarantee: str, record_property: Callable[[str, object], None]
) -> None:  # D1
    events, seed = sizes.events(), sizes.seed()
    mix = Mix(events=WITHOUT_END, duplicates=0.05, poison=0.005)  # so that every fault comes in mid-stream
    async with Trial(kafka, tmp_path, processing_guarantee=guarantee) as trial:
        one, two = trial.worker("one"), trial.worker("two")
        await trial.start(one, two)
        await trial.shared(one, two)
        async with Feed(trial, seed, rate=max(3_000, events / 30), mix=mix) as feed:
            await feed.reached(events // 4)
            one.kill()
            await trial.shared(two)
            await trial.start(one)
            await trial.shared(one, two)
            await feed.reached(events // 2)
            one.kill()
            trial.wipe(one)
            await trial.start(one)
            await trial.shared(one, two)
            await feed.reached(events)
            journal = await feed.end()
        report = await trial.verdict(journal)
    assert report.figures["inputs"] == journal.acked >= events
    record_property("soak", f"{guarantee}: killed twice in mid-stream; {figures(report)}")


async def test_restarts_on_an_empty_disk_with_a_backlog_waiting_lose_no_event(
    kafka: KafkaCluster, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    rounds, seed, backlog = sizes.rounds(), sizes.seed(), 1_000
    rng, journal = random.Random(seed), Journal(seed)
    records = generate(seed, Mix(events=rounds * 2 * backlog, users=100))
    async with Trial(kafka, tmp_path) as trial:
        worker = trial.worker("one")
        for number in range(rounds):
            if number:
                worker.kill() if rng.random() < 0.5 else await trial.stop(worker)
                trial.wipe(worker)
            await trial.write((next(records) for _ in range(backlog)), journal)
            worker.start()
            # More of it arrives while the state is being rebuilt.
            await asyncio.gather(
                trial.write((next(records) for _ in range(backlog)), journal, rate=800),
                asyncio.to_thread(worker.wait_ready, 60),
            )
            await trial.caught_up(30)
        report = await trial.verdict(journal)
    assert report.figures["inputs"] == journal.acked == rounds * 2 * backlog
    record_property("soak", f"{rounds} starts, each but the first on an empty disk; {figures(report)}")


def figures(report: Report) -> str:
    found = report.figures
    rows = max(number for name, number in found.items() if name.endswith(": rows"))
    twice = sum(number for name, number in found.items() if name.endswith(": physical duplicates"))
    return (
        f"nothing differs in {found['inputs']:,} inputs and four views of {rows:,} rows, {twice:,} records there twice"
    )
