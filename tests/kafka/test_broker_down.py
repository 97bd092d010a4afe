"""Brokers are killed under load: the workers wait and go on by themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kafka import sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.feed import Feed
from tests.kafka.trial import Trial
from tests.kafka.waiting import until
from tests.oracle.generator import Mix, generate

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
AWAY_S = 20.0


async def test_the_only_broker_is_killed_and_comes_back_after_twenty_seconds(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    async with Trial(kafka, tmp_path) as trial:
        one, two = trial.worker("one"), trial.worker("two")
        await trial.start(one, two)
        await trial.shared(one, two)
        pids = one.process.pid, two.process.pid
        async with Feed(trial, sizes.seed(), rate=1_500) as feed:
            await feed.more(3_000)
            await asyncio.to_thread(kafka.kill_broker, 1)
            await asyncio.sleep(AWAY_S)
            assert one.alive
            assert two.alive
            assert feed.flowing
            await asyncio.to_thread(kafka.start_broker, 1)
            await feed.more(3_000)
            journal = await feed.end()
        await trial.caught_up(90)
        assert (one.process.pid, two.process.pid) == pids
        await trial.verdict(journal)


async def test_a_worker_that_starts_without_a_broker_waits_for_it(kafka: KafkaCluster, tmp_path: Path) -> None:
    seed = sizes.seed()
    async with Trial(kafka, tmp_path) as trial:
        journal = await trial.write(generate(seed, Mix(events=3_000)))
        await asyncio.to_thread(kafka.kill_broker, 1)
        worker = trial.worker("one").start()
        await until(lambda: "waiting" in worker.end_of_log(), 20, "it says that it waits")
        assert worker.alive
        assert trial.takeovers(worker) == []
        await asyncio.to_thread(kafka.start_broker, 1)
        await asyncio.to_thread(worker.wait_ready, 60)
        await trial.verdict(journal)


async def test_a_leader_and_then_the_coordinator_of_three_are_killed(kafka3: KafkaCluster, tmp_path: Path) -> None:
    async with Trial(kafka3, tmp_path) as trial:
        one, two = trial.worker("one"), trial.worker("two")
        await trial.start(one, two)
        await trial.shared(one, two)
        async with Feed(trial, sizes.seed(), rate=1_000) as feed:
            for find_victim in (trial.leader_of_changelog, trial.coordinator):
                await feed.more(2_000)
                victim = await find_victim()
                await asyncio.to_thread(kafka3.kill_broker, victim)
                done = sum((await trial.committed()).values())
                await trial.committed_more_than(done + 1_000)  # two of three are enough to go on
                assert feed.flowing
                assert one.alive
                assert two.alive
                await asyncio.to_thread(kafka3.start_broker, victim)
            journal = await feed.end()
        assert one.alive
        assert two.alive
        await trial.verdict(journal)
