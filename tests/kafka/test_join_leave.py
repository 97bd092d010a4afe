"""A worker joins and leaves, again and again: every partition advances in between, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kafka import sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.feed import Feed
from tests.kafka.trial import GUARANTEES, Trial

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
                await trial.each_advances()
                await trial.stop(coming)
                await trial.each_advances()
            journal = await feed.end()
        assert len(trial.takeovers(coming)) >= 2
        await trial.verdict(journal)
