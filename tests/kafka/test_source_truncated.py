"""A source whose log lost records that were read: what is written at their offsets now is new, and applied."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from pipeline.runtime.source_logs import LOOK_EVERY_S
from tests.kafka import pages
from tests.kafka.cluster import KafkaCluster
from tests.kafka.trial import GUARANTEES, Trial
from tests.kafka.waiting import until
from tests.kafka.webhook import Webhook
from tests.oracle.generator import Made
from tests.oracle.process import Worker
from tests.oracle.records import COMMENT_COUNTS, USER_EVENTS
from tests.oracle.truth import read

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]
BEFORE, NEW = 1_000, 300
ALERT = f"rewound/{USER_EVENTS}/0"


def comments(count: int) -> list[Made]:
    """Comments of one user, each with a msg_id of its own."""

    def comment(number: int) -> Made:
        event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": 1, "msg": str(number)}}
        return Made(USER_EVENTS, b"1", json.dumps(event).encode(), (), str(number))

    return [comment(number) for number in range(count)]


async def counts(trial: Trial) -> list[int]:
    """The counts that were published for the user: each comment that was applied once makes one more."""
    log = (await read(trial.cluster.bootstrap, [COMMENT_COUNTS], "read_committed"))[COMMENT_COUNTS]
    return [json.loads(record.value or b"")["data"]["count"] for record in log[0]]


def cut(cluster: KafkaCluster, node_id: int = 1) -> None:
    """The broker dies, and its disk has nothing of the source's partition any more when it starts again."""
    cluster.kill_broker(node_id)
    directory = cluster.nodes[node_id].directory / "data" / f"{USER_EVENTS}-0"
    for file in directory.iterdir():
        if file.suffix == ".log":
            os.truncate(file, 0)
        elif file.name != "partition.metadata":
            file.unlink()
    cluster.start_broker(node_id)


@asynccontextmanager
async def running(
    kafka: KafkaCluster, directory: Path, guarantee: str, before: Iterable[Made], **settings: str
) -> AsyncIterator[tuple[Trial, Worker, Webhook]]:
    """A worker that has applied and committed what stood in its source."""
    with Webhook() as webhook:
        settings |= {"processing_guarantee": guarantee, "alert_webhook": webhook.url}
        trial = Trial(kafka, directory, partitions=1, **settings)
        async with trial:
            await trial.write(before)
            worker = trial.worker("one")
            await trial.start(worker)
            await trial.caught_up()
            yield trial, worker, webhook


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_what_is_written_after_the_log_was_cut_is_applied(
    kafka: KafkaCluster, tmp_path: Path, guarantee: str
) -> None:
    async with running(kafka, tmp_path, guarantee, comments(BEFORE)) as (trial, worker, webhook):
        await asyncio.to_thread(cut, kafka)
        await trial.write(comments(NEW))

        async def all_applied() -> bool:
            return len(await counts(trial)) >= BEFORE + NEW

        await until(all_applied, 40, "the new records are applied")
        await trial.caught_up(20)
        assert (await trial.committed())[USER_EVENTS, 0] >= NEW
        assert await pages.metric(worker, "hardparts_rewinds_total", topic=USER_EVENTS, partition="0") == 1
        await trial.stop(worker)
        assert await counts(trial) == list(range(1, BEFORE + NEW + 1))
        [opened] = [body for body in webhook.received if body["alert"] == ALERT and body["state"] == "open"]
        assert (opened["topic"], opened["partition"], opened["position"]) == (USER_EVENTS, 0, BEFORE)


async def test_a_log_that_was_cut_and_has_grown_beyond_the_position_again_is_read_from_its_beginning(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    """The position is an offset of the log, so no fetch fails: its end is lower than it was.

    An open transaction keeps the worker from reading up to the end; frozen, it doesn't see the log while it is empty.
    """
    async with running(kafka, tmp_path, "at_least_once", comments(10), session_timeout_s="120") as scene:
        trial, worker, _ = scene
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id="foreign") as foreign:
            await foreign.begin_transaction()
            [first] = comments(1)
            await foreign.send_and_wait(USER_EVENTS, first.value, key=first.key, partition=0)
            await trial.write(comments(100))

            async def seen() -> bool:
                return await pages.metric(worker, "hardparts_lag_records", topic=USER_EVENTS, partition="0") == 101

            await until(seen, 20, "the records behind the transaction are lag")
            await asyncio.sleep(2 * LOOK_EVERY_S)
            worker.freeze()
            await asyncio.to_thread(cut, kafka)
        await trial.write(comments(20))
        worker.thaw()

        async def all_applied() -> bool:
            return len(await counts(trial)) >= 10 + 20

        await until(
            all_applied, 240, "the new records are applied, after a session timeout if the broker forgot the member"
        )
        await trial.caught_up(20)
        assert await pages.metric(worker, "hardparts_rewinds_total", topic=USER_EVENTS, partition="0") == 1
        await trial.stop(worker)
        assert f"{USER_EVENTS}[0]: the log reached 111 and ends at 20 now: records are lost" in worker.log.read_text()
        assert await counts(trial) == list(range(1, 10 + 20 + 1))
