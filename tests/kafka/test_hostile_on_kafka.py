"""Thousands of hostile records through a worker on a real Kafka, as tests/hostile sends them to the embedded broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.run import run, size
from tests.kafka.cluster import KafkaCluster
from tests.kafka.trial import Trial

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300 + size() // 100)]
PARTITIONS = 2


async def test_every_hostile_record_has_one_error_record_and_every_good_one_counts(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    async with Trial(kafka, tmp_path, partitions=PARTITIONS, session_timeout_s="30") as trial:
        worker = trial.worker("one")
        await trial.start(worker)
        await run(kafka.bootstrap, trial.app_id, worker, PARTITIONS)
