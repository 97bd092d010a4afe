"""HARDPARTS_STATIC_MEMBERSHIP: a worker that is back within its session goes on where it was, and nobody else stops."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kafka import sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.feed import Feed
from tests.kafka.trial import Trial

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


async def test_a_restarted_worker_gets_its_partitions_back_without_a_rebalance(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    async with Trial(kafka, tmp_path, static_membership="true", session_timeout_s="30") as trial:
        one, two = trial.worker("one"), trial.worker("two")
        await trial.start(one, two)
        await trial.shared(one, two)
        owned, takeovers = trial.owned(one), len(trial.takeovers(two))
        async with Feed(trial, sizes.seed(), rate=1_500) as feed:
            for end in (lambda: trial.stop(one), lambda: _kill(trial, "one")):
                await feed.more(1_500)
                await end()
                await feed.more(500)
                await trial.start(one)
                await trial.shared(one, two)
                assert trial.owned(one) == owned
                assert len(trial.takeovers(two)) == takeovers, "the other worker didn't notice"
            journal = await feed.end()
        await trial.verdict(journal)


async def _kill(trial: Trial, name: str) -> None:
    trial.workers[name].kill()
