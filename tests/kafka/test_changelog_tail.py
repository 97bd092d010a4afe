"""A changelog that has lost its end, on a real Kafka: events are read again, and none is lost or counted twice."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.kafka import logs
from tests.kafka.cluster import KafkaCluster
from tests.kafka.trial import GUARANTEES, Trial
from tests.kafka.waiting import until
from tests.kafka.webhook import Webhook
from tests.oracle.generator import Made
from tests.oracle.process import Worker, WorkerEnded
from tests.oracle.records import COMMENT_COUNTS, USER_EVENTS
from tests.oracle.truth import read
from tests.oracle.views import unit_directories

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
BEHIND = "state-behind/user-events/0"


def comment(number: int) -> Made:
    """A comment of user 1 with a msg_id of its own."""
    event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": 1, "msg": str(number)}}
    return Made(USER_EVENTS, b"1", json.dumps(event).encode(), (), str(number))


async def one_by_one(trial: Trial, count: int) -> None:
    """Comments that are applied each in a batch of its own."""
    for number in range(count):
        await trial.write([comment(number)])
        await trial.caught_up()


async def counts(trial: Trial) -> list[int]:
    """The count of each output, in the order of their first appearance; a repeat must have the content of the first."""
    contents: dict[str, int] = {}
    for record in (await read(trial.cluster.bootstrap, [COMMENT_COUNTS], "read_committed"))[COMMENT_COUNTS][0]:
        event = json.loads(record.value or b"")
        assert contents.setdefault(event["msg_id"], event["data"]["count"]) == event["data"]["count"]
    return list(contents.values())


async def turns(trial: Trial) -> list[tuple[int, dict[str, Any]]]:
    """Offset and value of each `_turn` row of the changelog."""
    log = (await read(trial.cluster.bootstrap, [trial.changelog], "read_committed"))[trial.changelog][0]
    return [(record.offset, orjson.loads(record.value or b"")) for record in log if record.key == b"_turn"]


async def cut_behind(trial: Trial, position: int) -> None:
    """The broker dies, and when it is back its changelog ends with the rows of the first `position` events."""
    keep = next(offset for offset, turn in await turns(trial) if turn["at"].get(USER_EVENTS) == position)

    def cut() -> None:
        trial.cluster.kill_broker(1)
        assert logs.keep_below(trial.cluster, trial.changelog, 0, keep + 1) > 0
        trial.cluster.start_broker(1)

    await asyncio.to_thread(cut)


@asynccontextmanager
async def applied(
    kafka: KafkaCluster, directory: Path, guarantee: str, count: int
) -> AsyncIterator[tuple[Trial, Worker, Webhook]]:
    """A worker that has applied this many comments, and is still running."""
    with Webhook() as webhook:
        settings = {"processing_guarantee": guarantee, "alert_webhook": webhook.url}
        async with Trial(kafka, directory, partitions=1, **settings) as trial:
            worker = trial.worker("one")
            await trial.start(worker)
            await one_by_one(trial, count)
            yield trial, worker, webhook


async def dies_in_recovery(trial: Trial) -> None:
    """A worker that owns the unit, and is killed before it has read the changelog."""
    doomed = trial.worker("one", crash_at="in-recovery:1").start()
    assert await asyncio.to_thread(doomed.process.wait, 60) == -signal.SIGKILL


def opened(webhook: Webhook, alert: str) -> list[dict[str, Any]]:
    """What the webhook was told of an alert that opened."""
    return [body for body in webhook.received if body["alert"] == alert and body["state"] == "open"]


@pytest.mark.parametrize("disk", ["kept", "lost"])
@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_events_whose_rows_are_gone_are_applied_again(
    kafka: KafkaCluster, tmp_path: Path, guarantee: str, disk: str
) -> None:
    async with applied(kafka, tmp_path, guarantee, 6) as (trial, worker, webhook):
        await trial.stop(worker)
        await cut_behind(trial, 4)
        if disk == "lost":
            trial.wipe(worker)
        await dies_in_recovery(trial)  # its fence doesn't hide what the changelog says
        await trial.start(trial.worker("one"))
        await trial.write([comment(6)])
        await trial.caught_up()
        assert await counts(trial) == [1, 2, 3, 4, 5, 6, 7]
        [alert] = opened(webhook, BEHIND)
        assert (alert["topic"], alert["group_offset"], alert["changelog_offset"]) == (USER_EVENTS, 6, 4)
        if disk == "kept":
            assert "the changelog only to" in alert["reason"]
            aside = unit_directories(trial.data, "one")[0].parent.glob("0.set-aside-*")
            assert len(list(aside)) == 1, "the copy that had more is kept"
        await trial.stop(trial.workers["one"])


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_changelog_that_shrinks_under_a_running_worker_is_never_written_on(
    kafka: KafkaCluster, tmp_path: Path, guarantee: str
) -> None:
    """What the worker writes then would stand behind a hole that no rebuild can see."""
    async with applied(kafka, tmp_path, guarantee, 6) as (trial, worker, _):
        await cut_behind(trial, 3)
        await trial.write([comment(6)])

        async def over() -> bool:
            return not worker.alive or await counts(trial) == [1, 2, 3, 4, 5, 6, 7]

        await until(over, 60, "it has noticed")
        if worker.alive:  # its producer broke, and it read the changelog anew
            await trial.caught_up()
            await trial.stop(worker)
            return
        assert worker.process.returncode == 1
        assert f"{trial.changelog}[0] has lost rows" in worker.end_of_log()
        assert 1 not in (await counts(trial))[1:], "nothing was counted from the beginning"
        for name in ("one", "elsewhere"):
            with pytest.raises(WorkerEnded, match="has lost acknowledged rows"):
                await trial.start(trial.worker(name))


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_copy_of_a_changelog_that_has_grown_past_it_again_is_noticed(
    kafka: KafkaCluster, tmp_path: Path, guarantee: str
) -> None:
    async with applied(kafka, tmp_path, guarantee, 6) as (trial, worker, _):
        await trial.stop(worker)
        await cut_behind(trial, 3)
        other = trial.worker("two")
        await trial.start(other)
        await one_by_one(trial, 4)
        await trial.stop(other)
        await trial.start(worker)
        await trial.write([comment(10)])
        await trial.caught_up()
        assert await counts(trial) == list(range(1, 12))
        await trial.stop(worker)
        assert len(list(unit_directories(trial.data, "one")[0].parent.glob("0.set-aside-*"))) == 1
