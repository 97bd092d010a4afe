"""A record that can't be handled now holds its partition, and nothing else, where it stands."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from tests.kafka import pages, requests
from tests.kafka.cluster import KafkaCluster
from tests.kafka.trial import Trial
from tests.kafka.waiting import until
from tests.kafka.webhook import Webhook
from tests.oracle.generator import Made
from tests.oracle.process import Worker
from tests.oracle.records import COMMENT_COUNTS, USER_EVENTS, partition_of
from tests.oracle.truth import read

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
BEFORE, BEHIND = 10, 20
USERS = tuple(next(user for user in count(1) if partition_of(b"%d" % user, 2) == number) for number in range(2))
"""A user of partition 0 and one of partition 1."""


def comment(partition: int, msg: str) -> Made:
    user = USERS[partition]
    event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": user, "msg": msg}}
    return Made(USER_EVENTS, b"%d" % user, json.dumps(event).encode(), (), msg)


@dataclass
class Waiting:
    """A worker whose partition 0 is blocked at the record BEFORE, with BEHIND records behind it."""

    trial: Trial
    worker: Worker
    away: Path
    webhook: Webhook

    async def position(self, partition: int) -> int | None:
        return (await self.trial.committed()).get((USER_EVENTS, partition))

    async def is_at(self, partition: int, offset: int) -> bool:
        return await self.position(partition) == offset

    async def counts(self, partition: int) -> list[int]:
        """The counts that were published for the user of this partition, in order."""
        log = (await read(self.trial.cluster.bootstrap, [COMMENT_COUNTS]))[COMMENT_COUNTS]
        return [json.loads(r.value or b"")["data"]["count"] for r in log[partition]]

    async def blocked(self) -> None:
        """Wait until the worker says that it is blocked there, and the prefix has been committed."""

        async def is_blocked() -> bool:
            heads = (await pages.ready(self.worker)).get("blocked", [])
            return [(h["topic"], h["partition"], h["offset"], h["reason"]) for h in heads] == [
                (USER_EVENTS, 0, BEFORE, "file")
            ]

        async def is_committed() -> bool:
            return await self.position(0) == BEFORE

        await until(is_blocked, 30, "blocked at the record")
        await until(is_committed, 10, "the records before it are committed")


@asynccontextmanager
async def waiting(kafka: KafkaCluster, directory: Path, **settings: str) -> AsyncIterator[Waiting]:
    """The records stand in the topic before the worker starts, so that it gets them as one batch."""
    away = directory / "away"
    away.touch()
    app = "tests.kafka.apps.blocking:app"
    with Webhook() as webhook, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_AWAY", str(away))
        trial = Trial(kafka, directory, partitions=2, agent="blocking", app=app, alert_webhook=webhook.url, **settings)
        async with trial:
            behind = [comment(0, "behind") for _ in range(BEHIND)]
            good = [comment(0, "before") for _ in range(BEFORE)]
            await trial.write([*good, comment(0, "blocks"), *behind])
            worker = trial.worker("one")
            await trial.start(worker)
            state = Waiting(trial, worker, away, webhook)
            await state.blocked()
            yield state


async def test_a_worker_killed_while_it_waits_goes_on_at_that_record(kafka: KafkaCluster, tmp_path: Path) -> None:
    async with waiting(kafka, tmp_path) as state:
        state.worker.kill()
        assert await state.position(0) == BEFORE
        assert await state.counts(0) == list(range(1, BEFORE + 1))
        await state.trial.start(state.worker)
        await state.blocked()
        assert await state.counts(0) == list(range(1, BEFORE + 1)), "those before it were applied once"
        state.away.unlink()
        await state.trial.caught_up(30)
        assert await state.counts(0) == list(range(1, BEFORE + BEHIND + 2)), "those after it in order"
        await state.trial.stop(state.worker)


async def test_other_partitions_advance_the_gauge_grows_and_one_alert_opens_and_closes(
    kafka: KafkaCluster, tmp_path: Path
) -> None:  # E3, E4
    async with waiting(kafka, tmp_path) as state:
        labels = {"agent": "blocking", "topic": USER_EVENTS, "partition": "0", "reason": "file"}
        await state.trial.write([comment(1, "elsewhere") for _ in range(50)])

        async def elsewhere() -> bool:
            return await state.position(1) == 50

        await until(elsewhere, 10, "the other partition advances")
        assert await state.position(0) == BEFORE
        seconds = await pages.metric(state.worker, "hardparts_blocked_seconds", **labels)
        assert seconds is not None
        assert seconds > 0
        later = time.monotonic() + 1.5
        await until(lambda: time.monotonic() > later, 5, "a while")
        grown = await pages.metric(state.worker, "hardparts_blocked_seconds", **labels)
        assert grown is not None
        assert grown >= seconds + 1.4
        assert state.webhook.states("blocked:blocking:0") == ["open"], "attempts repeat, the alert doesn't"
        state.away.unlink()
        await state.trial.caught_up(30)
        await until(lambda: len(state.webhook.received) > 1, 10, "the alert closes")
        assert await pages.metric(state.worker, "hardparts_blocked_seconds", **labels) is None
        await state.trial.stop(state.worker)
        assert state.webhook.states("") == ["open", "closed"]
        opened = state.webhook.received[0]
        assert (opened["topic"], opened["partition"], opened["offset"]) == (USER_EVENTS, 0, BEFORE)
        assert await state.counts(0) == list(range(1, BEFORE + BEHIND + 2))
        assert await state.counts(1) == list(range(1, 51))


async def test_sigterm_while_blocked_ends_the_worker_and_leaves_the_record_uncommitted(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    async with waiting(kafka, tmp_path) as state:
        await state.trial.stop(state.worker)  # bounded, and status 0
        assert await state.position(0) == BEFORE
        state.away.unlink()
        await state.trial.start(state.worker)
        await state.trial.caught_up(30)
        assert await state.counts(0) == list(range(1, BEFORE + BEHIND + 2))
        await state.trial.stop(state.worker)


async def test_a_worker_blocked_for_three_poll_intervals_stays_in_the_group_and_sigterm_ends_it(
    kafka: KafkaCluster, tmp_path: Path
) -> None:  # E3, E5
    poll_interval_s = 10.0
    async with waiting(kafka, tmp_path, max_poll_interval_s=str(poll_interval_s)) as state:
        trial = state.trial
        members = await requests.members(kafka.bootstrap, trial.app_id)
        # Enough records behind it to fill the unit, so that this partition has no room for long.
        await trial.write([comment(0, "behind") for _ in range(20_000)])
        for elsewhere in range(10, 40, 10):
            await trial.write([comment(1, "elsewhere") for _ in range(10)])
            await asyncio.sleep(poll_interval_s)
            # The session is 3 s: who is still the same member has had its heartbeats answered all the time.
            assert await requests.members(kafka.bootstrap, trial.app_id) == members
            assert len(trial.takeovers(state.worker)) == 1
            assert await state.position(0) == BEFORE
            await until(partial(state.is_at, 1, elsewhere), 60, "the other partition advances")
        await trial.stop(state.worker)  # bounded, and status 0
        assert await state.position(0) == BEFORE
        state.away.unlink()
        await trial.start(state.worker)
        await trial.caught_up(90)
        assert await state.counts(1) == list(range(1, 31))
        await trial.stop(state.worker)
