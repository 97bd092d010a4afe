"""PostgreSQL goes away under a running worker: the read model waits in order, everything else goes on (E3, E4)."""

import asyncio
import json
import os
import uuid
from pathlib import Path

import pytest

from tests.behaviour.place import Place
from tests.behaviour.postgres import Postgres
from tests.kafka.waiting import until
from tests.kafka.webhook import Webhook

pytestmark = pytest.mark.postgres

OUTAGE_S = float(os.environ.get("HARDPARTS_TEST_OUTAGE_S", "5"))
BEFORE, DURING = 30, 200
USER = 7


def comments(number: int) -> list[tuple[bytes, bytes]]:
    return [
        (b"%d" % USER, json.dumps({"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": data}).encode())
        for data in ({"user_id": USER, "msg": str(at)} for at in range(number))
    ]


@pytest.mark.timeout(120 + OUTAGE_S)
async def test_while_postgres_is_away_nothing_is_lost_and_other_agents_go_on(tmp_path: Path) -> None:
    with (
        Postgres() as server,
        Webhook() as webhook,
        Place(
            tmp_path,
            agents=["user-events", "read-model"],
            partitions=1,
            database_url=server.url(name := server.database()),
            alert_webhook=webhook.url,
        ) as place,
    ):
        worker = await asyncio.to_thread(place.worker)
        await place.send("user-events", comments(BEFORE), 0)
        await place.committed_to(BEFORE, "comment-counts", 0)

        server.stop()
        await place.send("user-events", comments(DURING), 0)
        await place.committed_to(BEFORE + DURING, "user-events", 0)  # the other agent goes on
        await until(lambda: webhook.received, 30, "an alert")
        await asyncio.sleep(OUTAGE_S)  # how long the outage lasts
        assert (await place.committed())["comment-counts", 0] == BEFORE
        assert webhook.states("") == ["open"], "attempts repeat, the alert doesn't"

        server.start()
        await place.committed_to(BEFORE + DURING, "comment-counts", 0, timeout_s=60)
        await until(lambda: len(webhook.received) > 1, 10, "the alert closes")
        assert webhook.states("") == ["open", "closed"]
        assert {body["alert"] for body in webhook.received} == {"blocked:read-model:0"}
        with server.connect(name) as connection:
            rows = connection.execute("select user_id, count from comment_counts").fetchall()
        assert rows == [(str(USER), BEFORE + DURING)]
        counted = [
            json.loads(record.value or b"")["data"]["count"] for record in (await place.log("comment-counts"))[0]
        ]
        assert counted == list(range(1, BEFORE + DURING + 1)), "in order, each once"
        assert (await place.log(f"{place.app_id}.errors"))[0] == [], "no good record in the error topic"
        assert worker.stop() == 0
