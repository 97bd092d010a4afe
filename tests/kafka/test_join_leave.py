"""A worker joins and leaves, again and again: every partition advances in between, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kafka import sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.feed import Feed
from tests.kafka.trial import GUARANTEES, Trial
from tests.kafka.waiting import until
from tests.oracle.records import USER_EVENTS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_each_partition_advances_between_two_changes(kafka: KafkaCluster, tmp_path: Path, guarantee: str) -> None:
    async with Trial(kafka, tmp_path, processing_guarantee=guarantee) as trial:
        staying, coming = trial.worker("staying"), trial.worker("coming")
        await trial.start(staying)
        async with Feed(trial, sizes.seed(), rate=800) as feed:
            await feed.more(800)
            for _ in range(2):
                await trial.start(coming)
                await each_advances(trial)
                await trial.stop(coming)
                await each_advances(trial)
            journal = await feed.end()
        assert len(trial.takeovers(coming)) >= 2
        await trial.verdict(journal)


async def each_advances(trial: Trial) -> None:
    """Wait until each partition has committed more than now."""
    before = await trial.committed()

    async def advanced() -> bool:
        now = await trial.committed()
        return all(now.get((USER_EVENTS, n), 0) > before.get((USER_EVENTS, n), 0) for n in range(trial.partitions))

    await until(advanced, 90, f"each partition beyond {before}")
