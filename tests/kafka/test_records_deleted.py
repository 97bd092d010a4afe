"""Records of a source that the broker deletes before a running worker has read them: said by name, then it goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from tests.kafka import pages, requests
from tests.kafka.cluster import KafkaCluster
from tests.kafka.test_source_truncated import comments, counts, running
from tests.kafka.trial import GUARANTEES
from tests.kafka.waiting import until
from tests.oracle.records import USER_EVENTS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
BEFORE, SENT, DELETED_TO = 10, 500, 400
FROZEN_S = 3.0
ALERT = f"records-lost/{USER_EVENTS}/0"


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_records_deleted_under_a_frozen_worker_are_named_and_the_others_applied(
    kafka: KafkaCluster, tmp_path: Path, guarantee: str
) -> None:
    """Its session is longer than it is frozen: it goes on in the same generation, where it was."""
    async with running(kafka, tmp_path, guarantee, comments(BEFORE), session_timeout_s="30") as scene:
        trial, worker, webhook = scene
        at = (await trial.committed())[USER_EVENTS, 0]
        worker.freeze()
        await asyncio.sleep(FROZEN_S)  # a fetch that waits at the broker would still bring the first of them
        await trial.write(comments(SENT))
        async with requests.admin(kafka.bootstrap) as client:
            await client.delete_records({TopicPartition(USER_EVENTS, 0): RecordsToDelete(DELETED_TO)})
        worker.thaw()
        await trial.caught_up(60)
        assert len(trial.takeovers(worker)) == 1
        lost = await pages.metric(worker, "hardparts_records_lost_total", topic=USER_EVENTS, partition="0")
        assert lost == DELETED_TO - at
        await until(lambda: webhook.states(ALERT) == ["open"], 10, "the alert")
        await trial.stop(worker)
        opened = next(body for body in webhook.received if body["alert"] == ALERT)
        assert (opened["topic"], opened["partition"], opened["from"], opened["to"]) == (
            USER_EVENTS, 0, at, DELETED_TO - 1,
        )  # fmt: skip
        assert f"records {at} to {DELETED_TO - 1} expired before they were read" in worker.log.read_text()
        assert await counts(trial) == list(range(1, BEFORE + SENT - (DELETED_TO - at) + 1))
