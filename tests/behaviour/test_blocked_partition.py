"""A record whose dependency is away holds its own partition, tells once, and everything else goes on (E3, E4)."""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from pipeline.core.backoff import Backoff
from tests.behaviour.place import Place
from tests.kafka import pages
from tests.kafka.waiting import until
from tests.kafka.webhook import Webhook
from tests.oracle.process import Worker
from tests.oracle.records import partition_of

USERS = tuple(next(user for user in count(1) if partition_of(b"%d" % user, 2) == number) for number in range(2))
"""A user of partition 0 and one of partition 1."""
BEFORE, BEHIND = 3, 5
ATTEMPT = re.compile(r"user-events\[0\]@3 blocks on file: .*; attempt (\d+) in ([0-9.]+) s")


def comment(partition: int, msg: str) -> tuple[bytes, bytes]:
    user = USERS[partition]
    event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": user, "msg": msg}}
    return b"%d" % user, json.dumps(event).encode()


@dataclass
class Scene:
    """A worker whose partition 0 is blocked at the record BEFORE, until the file `away` is gone."""

    place: Place
    worker: Worker
    webhook: Webhook
    away: Path

    async def counts(self, partition: int) -> list[int]:
        records = (await self.place.log("comment-counts"))[partition]
        return [json.loads(record.value or b"")["data"]["count"] for record in records]

    def attempts(self) -> list[tuple[int, float]]:
        """(number of the next attempt, seconds until it) of each that failed."""
        found = ATTEMPT.findall(self.worker.log.read_text())
        return [(int(number), float(delay)) for number, delay in found]


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    away = tmp_path / "away"
    away.touch()
    monkeypatch.setenv("TEST_AWAY", str(away))
    app = "tests.kafka.apps.blocking:app"
    with Webhook() as webhook, Place(tmp_path, app=app, agents=["blocking"], alert_webhook=webhook.url) as place:
        words = ["before"] * BEFORE + ["blocks"] + ["behind"] * BEHIND
        await place.send("user-events", [comment(0, word) for word in words], 0)
        worker = await asyncio.to_thread(place.worker)
        await until(lambda: webhook.received, 30, "an alert")
        await place.committed_to(BEFORE, "user-events", 0)
        yield Scene(place, worker, webhook, away)


async def test_the_other_partition_goes_on_and_one_alert_opens_and_closes(scene: Scene) -> None:  # E3, E4
    assert await scene.counts(0) == [1, 2, 3]
    await scene.place.send("user-events", [comment(1, "elsewhere") for _ in range(20)], 1)
    await scene.place.committed_to(20, "user-events", 1)
    assert await scene.counts(1) == list(range(1, 21))
    labels = {"agent": "blocking", "topic": "user-events", "partition": "0", "reason": "file"}
    first = await pages.metric(scene.worker, "hardparts_blocked_seconds", **labels)
    await until(lambda: len(scene.attempts()) >= 5, 30, "it is tried again and again")
    later = await pages.metric(scene.worker, "hardparts_blocked_seconds", **labels)
    assert first is not None
    assert later is not None
    assert 0 < first < later
    assert await pages.metric(scene.worker, "hardparts_blocked_seconds", agent="blocking", partition="1") is None
    assert (await scene.place.committed())["user-events", 0] == BEFORE
    assert scene.webhook.states("") == ["open"], "attempts repeat, the alert doesn't"

    scene.away.unlink()
    await scene.place.committed_to(BEFORE + 1 + BEHIND, "user-events", 0)
    await until(lambda: len(scene.webhook.received) > 1, 10, "the alert closes")
    assert await scene.counts(0) == list(range(1, BEFORE + 1 + BEHIND + 1)), "in order, each once"
    assert await pages.metric(scene.worker, "hardparts_blocked_seconds", **labels) is None
    assert scene.worker.stop() == 0
    assert scene.webhook.states("") == ["open", "closed"]
    opened, closed = scene.webhook.received
    assert opened["alert"] == closed["alert"] == "blocked:blocking:0"
    assert (opened["topic"], opened["partition"], opened["offset"], opened["reason"]) == (
        "user-events", 0, BEFORE, "file",
    )  # fmt: skip
    assert all(records == [] for records in (await scene.place.log(f"{scene.place.app_id}.errors")).values())

    attempts = scene.attempts()
    assert [number for number, _ in attempts] == list(range(2, len(attempts) + 2)), "no attempt is skipped or repeated"
    backoff = Backoff()
    assert all(delay <= backoff.bound_s(number - 1) + 0.05 for number, delay in attempts)  # as logged: to 0.1 s
    assert closed["attempts"] == len(attempts) + 1
