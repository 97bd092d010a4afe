"""Standby replicas: the worker that takes over has the state already."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kafka import pages, sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.trial import GUARANTEES, Trial
from tests.kafka.waiting import until
from tests.oracle.generator import Mix, generate
from tests.oracle.process import Worker
from tests.oracle.records import AGENT
from tests.oracle.views import changelog_view, rocksdb_view, unit_directories

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


async def copied(trial: Trial, worker: Worker) -> None:
    """Wait until the worker's copies of what others own have applied all of the changelogs."""

    async def up_to_date() -> bool:
        others = set(range(trial.partitions)) - trial.owned(worker)
        name = "hardparts_standby_behind_records"
        behind = [await pages.metric(worker, name, agent=AGENT, partition=str(number)) for number in others]
        return all(records == 0 for records in behind)

    await until(up_to_date, 60, f"{worker.instance} has copied everything")


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_copy_has_every_row_and_whoever_has_it_takes_over(
    kafka: KafkaCluster, tmp_path: Path, guarantee: str
) -> None:
    records = generate(sizes.seed(), Mix(events=8_000))
    async with Trial(kafka, tmp_path, standby_replicas="1", processing_guarantee=guarantee) as trial:
        one, two = trial.worker("one"), trial.worker("two")
        await trial.start(one, two)
        await trial.shared(one, two)
        journal = await trial.write(next(records) for _ in range(4_000))
        await trial.caught_up()
        await copied(trial, one)
        await copied(trial, two)
        two.kill()
        directories = unit_directories(trial.data, two.instance)
        assert set(directories) == set(range(trial.partitions)), "what it owned and the copies of what it didn't"
        assert rocksdb_view(directories) == await changelog_view(kafka.bootstrap, trial.app_id)
        await trial.shared(one)
        await trial.write(records, journal)
        await trial.start(two)
        await trial.shared(one, two)
        await trial.verdict(journal)
