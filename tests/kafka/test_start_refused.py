"""A worker that could not work right doesn't start: it ends with status 2 and names what to do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kafka import requests
from tests.kafka.cluster import KafkaCluster
from tests.kafka.trial import Trial
from tests.oracle.process import Worker
from tests.oracle.records import COMMENT_COUNTS, TEAM_EVENTS, USER_EVENTS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


async def refused(worker: Worker) -> str:
    """What it said when it ended with status 2: one line, no stack."""
    worker.start()
    code = await asyncio.to_thread(worker.process.wait, 30)
    if worker._reader is not None:
        await asyncio.to_thread(worker._reader.join, 10)
    said = worker.log.read_text()
    assert (code, len(said.splitlines())) == (2, 1), said
    return said


@pytest.mark.parametrize("odd", ["source", "changelog"])
async def test_unequal_partition_counts_are_refused(kafka: KafkaCluster, tmp_path: Path, odd: str) -> None:
    count = 6 if odd == "source" else 3  # a changelog may have more
    async with Trial(kafka, tmp_path) as trial:
        topic = TEAM_EVENTS if odd == "source" else trial.changelog
        await requests.delete_topic(kafka.bootstrap, topic)
        kafka.create_topics({topic: count})
        said = await refused(trial.worker("one"))
    assert f"{topic} has {count}" in said
    assert f"{USER_EVENTS} has 4" in said
    assert "hardparts topics plan" in said


@pytest.mark.parametrize("kind", ["source", "output", "errors", "changelog"])
async def test_a_missing_topic_is_refused(kafka: KafkaCluster, tmp_path: Path, kind: str) -> None:
    async with Trial(kafka, tmp_path) as trial:
        names = {"source": USER_EVENTS, "output": COMMENT_COUNTS, "errors": trial.errors, "changelog": trial.changelog}
        await requests.delete_topic(kafka.bootstrap, names[kind])
        said = await refused(trial.worker("one"))
    assert f"topics missing: {names[kind]}: " in said
    assert "hardparts topics apply" in said
