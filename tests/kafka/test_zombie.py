"""A worker that is stopped for longer than its session comes back as a zombie: its successor's work stays right."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.kafka import sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.feed import Feed
from tests.kafka.trial import GUARANTEES, Trial

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]
SESSION_S = 3.0


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_workers_frozen_for_two_sessions_under_load_leave_the_state_right(
    kafka: KafkaCluster, tmp_path: Path, guarantee: str
) -> None:
    seed = sizes.seed()
    rng = random.Random(seed)
    async with Trial(kafka, tmp_path, session_timeout_s=str(SESSION_S), processing_guarantee=guarantee) as trial:
        workers = trial.worker("one"), trial.worker("two")
        await trial.start(*workers)
        await trial.shared(*workers)
        async with Feed(trial, seed, rate=1_500) as feed:
            for _ in range(sizes.rounds()):
                await feed.more(500 + rng.randrange(2_000))
                frozen, other = rng.sample(workers, 2)
                thawed_at = asyncio.get_running_loop().time() + 2 * SESSION_S
                frozen.freeze()
                await trial.shared(other)  # the successor has taken everything over while the zombie thinks it owns it
                takeovers = len(trial.takeovers(frozen))
                await asyncio.sleep(max(0.0, thawed_at - asyncio.get_running_loop().time()))
                assert feed.flowing
                frozen.thaw()
                await trial.rejoined(frozen, takeovers)
                await trial.shared(*workers)
            journal = await feed.end()
        await trial.verdict(journal)
