"""Thousands of hostile records through a worker on a real Kafka, as tests/hostile sends them to the embedded broker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.run import run
from tests.kafka.cluster import KafkaCluster
from tests.kafka.sizes import HOSTILE
from tests.kafka.trial import Trial

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300 + HOSTILE() // 100)]
PARTITIONS = 2


async def test_every_hostile_record_has_one_error_record_and_every_good_one_counts(
    kafka: KafkaCluster, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with Trial(kafka, tmp_path, partitions=PARTITIONS, session_timeout_s="30") as trial:
        worker = trial.worker("one")
        await trial.start(worker)
        figures = await run(kafka.bootstrap, trial.app_id, worker, PARTITIONS)
    record_property("soak", str(figures))
