"""Rows deleted from a changelog on a real Kafka: a worker without them refuses by name, one that has them goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from tests.kafka import requests
from tests.kafka.cluster import KafkaCluster
from tests.kafka.trial import Trial
from tests.oracle.generator import Mix, generate
from tests.oracle.process import WorkerEnded

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
DELETED = 50


async def truncate(trial: Trial) -> None:
    """Delete the first rows of partition 0, which Kafka allows only while the topic isn't compacted."""
    bootstrap = trial.cluster.bootstrap
    await requests.configure_topic(bootstrap, trial.changelog, {"cleanup.policy": "delete"})
    async with requests.admin(bootstrap) as client:
        await client.delete_records({TopicPartition(trial.changelog, 0): RecordsToDelete(DELETED)})
    await requests.configure_topic(bootstrap, trial.changelog, {"cleanup.policy": "compact"})


async def test_a_worker_without_state_refuses_a_truncated_changelog_and_one_with_it_goes_on(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    records = generate(3, Mix(events=4_000, users=100))
    async with Trial(kafka, tmp_path, partitions=2) as trial:
        one = trial.worker("one")
        await trial.start(one)
        await trial.write(next(records) for _ in range(2_000))
        await trial.caught_up()
        await trial.stop(one)
        await truncate(trial)
        await trial.write(records)
        before = await trial.committed()
        with pytest.raises(WorkerEnded, match="exited 1") as ended:
            await trial.start(trial.worker("two"))
        last = str(ended.value).splitlines()[-1]
        assert f"ChangelogTruncated: user-events/0: {trial.changelog}[0] begins at offset {DELETED}" in last
        assert await trial.committed() == before, "it has taken nothing"
        await trial.start(one)
        await trial.caught_up()
        assert await asyncio.to_thread(one.stop) == 0
