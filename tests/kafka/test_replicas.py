"""Workers of one application share the partitions, whatever their number."""  # O6

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kafka import sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.feed import Feed
from tests.kafka.trial import Trial

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


async def test_one_owns_all_two_split_a_third_idles_and_a_killed_one_is_replaced_under_load(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    async with Trial(kafka, tmp_path, partitions=2) as trial, Feed(trial, sizes.seed(), rate=1_000) as feed:
        one, two, three = (trial.worker(name) for name in ("one", "two", "three"))
        await trial.start(one)
        assert trial.owned(one) == {0, 1}
        await feed.more(1_000)
        await trial.start(two)
        await trial.shared(one, two)
        assert len(trial.owned(one)) == len(trial.owned(two)) == 1
        await feed.more(1_000)

        await trial.start(three)  # says ready, whichever of the three has nothing
        await trial.shared(one, two, three)
        assert sorted(len(trial.owned(worker)) for worker in (one, two, three)) == [0, 1, 1]

        victim = next(worker for worker in (one, two, three) if trial.owned(worker))
        left = [worker for worker in (one, two, three) if worker is not victim]
        victim.kill()
        await trial.shared(*left)
        assert [len(trial.owned(worker)) for worker in left] == [1, 1]
        await feed.more(1_000)

        await trial.stop(left[0])
        await trial.shared(left[1])
        assert trial.owned(left[1]) == {0, 1}
        await feed.more(1_000)
        assert feed.flowing, "all of it under load"
        await trial.verdict(await feed.end())


async def test_a_worker_joins_and_leaves_again_and_again_while_a_backlog_waits(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    """Small batches, so that several of them wait inside each unit when its partition is taken away."""
    async with Trial(kafka, tmp_path, batch_records_max="50") as trial:
        staying, coming = trial.worker("staying"), trial.worker("coming")
        await trial.start(staying)
        async with Feed(trial, sizes.seed(), rate=8_000) as feed:
            for _ in range(sizes.rounds()):
                await feed.more(4_000)
                await trial.start(coming)
                await trial.shared(staying, coming)
                await feed.more(4_000)
                await trial.stop(coming)
                await trial.shared(staying)
            journal = await feed.end()
        await trial.verdict(journal)
