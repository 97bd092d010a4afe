"""A topic's limit on sizes that a person changes while workers run is in force within a minute, in both directions."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from tests.kafka import requests
from tests.kafka.cluster import KafkaCluster
from tests.kafka.test_other_peoples_time import log_of
from tests.kafka.trial import GUARANTEES, Trial
from tests.kafka.waiting import until
from tests.oracle.generator import Made
from tests.oracle.records import MESSAGES, USER_EVENTS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]
SMALL, LARGE, MSG_CHARS = 20_000, 200_000, 30_000
APP = "tests.kafka.apps.attentive:app"


def event(type_: str, **data: object) -> Made:
    body = {"msg_id": str(uuid.uuid4()), "type": type_, "data": {"user_id": 1, **data}}
    return Made(USER_EVENTS, b"1", json.dumps(body).encode(), (), type_)


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_limit_that_is_raised_and_lowered_again(kafka: KafkaCluster, tmp_path: Path, guarantee: str) -> None:
    async with Trial(kafka, tmp_path, partitions=1, processing_guarantee=guarantee, app=APP) as trial:

        async def limit(size: int) -> None:
            await requests.configure_topic(kafka.bootstrap, MESSAGES, {"max.message.bytes": str(size)})

        async def outputs() -> int:
            return len(await log_of(kafka.bootstrap, MESSAGES))

        async def large() -> None:
            await trial.write([event("message.sent", to=2, msg="x" * MSG_CHARS)])
            await trial.caught_up(20)

        await limit(SMALL)
        worker = trial.worker("one")
        await trial.start(worker)
        await trial.write([event("user.followed", followee_id=2)])
        await large()
        assert await outputs() == 0, "rejected: the topic doesn't take it"
        await limit(LARGE)

        async def taken() -> bool:
            await large()
            return await outputs() > 0

        await until(taken, 20, "the raised limit is seen")
        before = await outputs()
        await limit(SMALL)
        await large()  # at once: the worker still goes by the old limit, and meets the broker's refusal
        assert await outputs() == before
        errors = await log_of(kafka.bootstrap, trial.errors)
        said = {dict(one.headers)["hp-error-message"].partition(b" bytes, ")[2] for one in errors}
        assert said == {b"more than topic messages accepts"}
        await trial.write([event("message.sent", to=2, msg="small")])
        await trial.caught_up(20)
        assert await outputs() == before + 1, "the partition goes on"
        await trial.stop(worker)
        assert "blocks on" not in worker.log.read_text()
