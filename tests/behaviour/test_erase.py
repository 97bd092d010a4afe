"""`hardparts erase`: one user out of everything that can be erased, the rest named, others untouched (D10)."""

import asyncio
import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from pipeline.broker import EmbeddedBroker
from pipeline.core.routing import partition_of
from tests.behaviour.commandline import CommandLine
from tests.oracle.truth import read

TOKEN = "a token of 20 letters"
WITHIN_S = 60
USER, OTHER = "7", "8"
AGENTS = ("notification-sender", "read-model", "user-events")


class Scene(NamedTuple):
    cli: CommandLine
    broker: EmbeddedBroker
    directory: Path
    url: str

    def erase(self, *arguments: str, **settings: str) -> Any:
        return self.cli("erase", *arguments, "--worker", self.url, **settings)

    def report(self, *arguments: str) -> dict[tuple[str, str], int]:
        """(place, agent or topic, table) → count."""
        found: dict[Any, int] = {}
        for row in self.erase(*arguments, "--json").fine().rows:
            found[row["place"], row["where"].partition("[")[0], row["name"]] = row["count"]
        return found

    def sql(self, user: str) -> int:
        with sqlite3.connect(self.directory / "data" / "read-model.sqlite3") as database:
            counted = [
                database.execute(f"select count(*) from {table} where user_id = ?", (user,)).fetchone()[0]
                for table in ("comment_counts", "messages")
            ]
        return sum(counted)

    def changelogs(self) -> dict[bytes, bytes]:
        """Rows of all agents, folded."""
        rows: dict[bytes, bytes] = {}
        logs = asyncio.run(read(self.broker.bootstrap, [f"hardparts-{agent}-changelog" for agent in AGENTS]))
        for agent, log in logs.items():
            for records in log.values():
                for record in records:
                    assert record.key is not None
                    if record.value is None:
                        rows.pop(agent.encode() + record.key, None)
                    else:
                        rows[agent.encode() + record.key] = record.value
        return rows

    def rows_of(self, user: str) -> list[bytes]:
        return [row for row in self.changelogs() if user.encode() in row.split(b"\0")[1:2]]


def event(type_: str, user: str = USER, **data: object) -> str:
    body = {"msg_id": str(uuid4()), "type": type_, "data": {"user_id": int(user), **data}}
    return json.dumps({"key": user, "value": body})


def notification(user: str) -> str:
    return event("notification.requested", user, text="hello", email="a@example.org")


def story(user: str) -> list[str]:
    return [
        event("comment.created", user, msg="a"),
        event("comment.created", user, msg="b"),
        event("user.followed", user, followee_id=9),
        event("message.sent", user, to=9, msg="hello"),
    ]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Two users whose events have gone through all three agents, and a record of the first in the error topic."""
    with EmbeddedBroker() as broker:
        cli = CommandLine(broker.url, tmp_path, web_token=TOKEN, session_timeout_s="6")
        cli("topics", "apply").fine()
        bad = json.dumps({"key": USER, "value": {"msg_id": 1, "type": "comment.created", "data": {"user_id": 7}}})
        cli("send", "user-events", stdin="\n".join([*story(USER), bad, *story(OTHER)])).fine()
        cli("send", "notifications", stdin="\n".join([notification(USER), notification(OTHER)])).fine()
        with cli.worker(web_port="0") as url:
            yield Scene(cli, broker, tmp_path, url)


EVERYTHING = {
    ("state", "user-events", "comments"): 1,
    ("state", "user-events", "follows"): 1,
    ("state", "user-events", "marks"): 4,
    ("state", "read-model", "marks"): 3,
    ("state", "notification-sender", "marks"): 1,
    ("state", "notification-sender", "mail-claims"): 1,
    ("sql", "read model", "comment_counts"): 1,
    ("sql", "read model", "messages"): 1,
}


def test_one_user_is_erased_and_the_other_one_keeps_everything(scene: Scene) -> None:
    """What the sources hold when the command starts is finished first, so nothing comes back."""
    before = scene.report(USER, "--dry-run")
    assert {what: count for what, count in before.items() if what[0] in ("state", "sql")} == EVERYTHING
    assert scene.sql(USER) == 2, "a dry run erases nothing"
    assert len(scene.rows_of(USER)) == 10
    others = [row for row in scene.rows_of(OTHER) if row]

    report = scene.report(USER)
    assert report == before
    assert report["topic", "user-events", "user-events"] == 5
    assert report["topic", "hardparts.errors", "hardparts.errors"] == 1
    assert report["topic", "comment-counts", "comment-counts"] == 2
    assert report["topic", "notifications", "notifications"] == 1
    assert ("changelog", "hardparts-user-events-changelog", "hardparts-user-events-changelog") in report

    assert scene.rows_of(USER) == []
    assert scene.sql(USER) == 0
    assert b"\0" in others[0]
    assert scene.rows_of(OTHER) == others
    assert scene.sql(OTHER) == 2
    claims = [row for row in scene.changelogs() if b"mail-claims" in row]
    assert len(claims) == 1
    assert scene.cli("tables", "dump", "comments").fine().rows == [{"key": OTHER, "value": 2}]

    again = scene.report(USER)
    assert {count for what, count in again.items() if what[0] in ("state", "sql")} == {0}, "harmless"


def test_a_new_event_of_an_erased_user_counts_from_one(scene: Scene) -> None:
    scene.erase(USER).fine()
    scene.cli("send", "user-events", stdin=event("comment.created", USER, msg="back")).fine()
    deadline = time.monotonic() + WITHIN_S
    while {"key": USER, "value": 1} not in scene.cli("tables", "dump", "comments").fine().rows:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
async def test_a_worker_that_is_killed_after_an_erasure_brings_nothing_back(tmp_path: Path, guarantee: str) -> None:
    """What was erased had been committed before: nothing of it is read again."""
    with EmbeddedBroker() as broker:
        settings = {"agents": "user-events", "processing_guarantee": guarantee}
        cli = CommandLine(broker.url, tmp_path, web_token=TOKEN, session_timeout_s="6", **settings)
        cli("topics", "apply").fine()
        with cli.running("worker", web_port="0") as worker:
            assert worker.stdout
            url = worker.stdout.readline().split("web=")[1].strip()
            async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all") as producer:
                for line in story(USER):
                    value = json.dumps(json.loads(line)["value"]).encode()
                    number = partition_of(USER.encode(), 2)
                    await producer.send_and_wait("user-events", value, key=USER.encode(), partition=number)
            asked = {"agent": "user-events", "key": USER, "dry_run": False}
            status, found = await asyncio.to_thread(post, url, asked)
            worker.kill()
        assert (status, found["rows"]["marks"]) == (200, 4)
        with cli.worker(web_port="0", instance="two") as url:
            status, found = await asyncio.to_thread(post, url, {**asked, "dry_run": True})
        assert (status, set(found["rows"].values())) == (200, {0})


def test_the_report_for_people_names_places_counts_and_when_the_rest_goes(scene: Scene) -> None:
    out = scene.erase(USER).fine().out
    number = partition_of(USER.encode(), 2)
    line = next(line for line in out.splitlines() if line.startswith("topic") and f" user-events[{number}] " in line)
    assert "  5  stays until " in line
    assert "(retention 7 d" in line
    assert "older values go" in next(line for line in out.splitlines() if line.startswith("changelog"))


def test_the_way_needs_the_workers_token(scene: Scene) -> None:
    assert "HARDPARTS_WEB_TOKEN" in scene.erase(USER, web_token="").failed(2)
    refused = scene.erase(USER, web_token="another").failed(1)
    assert "answers 401" in refused
    assert TOKEN not in refused
    assert scene.rows_of(USER), "nothing was erased"


def post(url: str, body: object, token: str | None = TOKEN) -> tuple[int, dict[str, Any]]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{url}/erase", json.dumps(body).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def test_a_request_that_makes_no_sense_is_refused(scene: Scene) -> None:
    good = {"agent": "user-events", "key": USER, "dry_run": True}
    assert post(scene.url, good)[0] == 200
    assert post(scene.url, good, token=None)[0] == 401
    for wrong in ([], {}, {**good, "key": ""}, {**good, "key": 7}, {**good, "key": "a\0b"}, {**good, "dry_run": "no"}):
        assert post(scene.url, wrong)[0] == 400, wrong
    assert post(scene.url, {**good, "agent": "nobody"})[0] == 404


def test_without_a_worker_it_says_so_and_how_to_go_on(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        said = CommandLine(broker.url, tmp_path, web_token=TOKEN)("erase", "7", web_port="1").failed(1)
    assert "agent user-events is not erased" in said
    assert "no worker answers at http://127.0.0.1:1" in said
    assert "hardparts worker" in said


def test_a_worker_without_a_token_erases_for_nobody(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        cli = CommandLine(broker.url, tmp_path)
        cli("topics", "apply").fine()
        with cli.worker(web_port="0") as url:
            assert post(url, {"agent": "user-events", "key": "7", "dry_run": True})[0] == 403
            assert "answers 403" in cli("erase", "7", "--worker", url, web_token=TOKEN).failed(1)
