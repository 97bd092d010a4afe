"""`hardparts tables` and `hardparts errors`, beside a worker that has done some work."""

import base64
import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from pipeline.broker import EmbeddedBroker
from pipeline.core.routing import partition_of
from pipeline.ops.errors import Filter, NoSuchError, listed, one
from pipeline.runtime.settings import Settings
from tests.behaviour.commandline import CommandLine

NASTY = 'Robert"); drop table students \x1b[31m\x9b31m\u202e'


class Scene(NamedTuple):
    """A worker of the user-events agent at `url` that has handled what was sent."""

    cli: CommandLine
    broker: EmbeddedBroker
    url: str


def event(type_: str, msg_id: str | None = None, **data: object) -> str:
    """One line for `send`."""
    return json.dumps(
        {"key": data["user_id"], "value": {"msg_id": msg_id or str(uuid4()), "type": type_, "data": data}}
    )


def until_ready(url: str) -> None:
    """Until the worker at `url` has taken over what a rebalance gave it."""
    while True:
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{url}/health/ready") as answer:
            if len(json.load(answer)["partitions"]) == 1:
                return


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with EmbeddedBroker() as broker:
        cli = CommandLine(broker.url, tmp_path_factory.mktemp("state"), agents="user-events")
        cli("topics", "apply").fine()
        lines = [
            event("comment.created", user_id=7, msg="a"),
            event("comment.created", user_id=7, msg="b"),
            event("comment.created", user_id=8, msg="c"),
            event("user.followed", user_id=7, followee_id=9),
            event("user.followed", user_id=7, followee_id=10),
            event("user.unfollowed", user_id=7, followee_id=10),
            event("comment.created", msg_id="no id " + NASTY, user_id=8, msg=NASTY),
            json.dumps({"key": "7", "value": "text", "headers": {"h" + NASTY: NASTY}}),
        ]
        cli("send", "user-events", stdin="\n".join(lines)).fine()
        with cli.worker() as url:
            while (
                len(cli("errors", "list", "--json").fine().rows) < 2 or len(cli("tables", "dump", "comments").rows) < 2
            ):
                pass
            yield Scene(cli, broker, url)


def test_dump_shows_the_rows_of_a_view_and_nothing_else(scene: Scene) -> None:
    assert scene.cli("tables", "dump", "comments").fine().rows == [{"key": "7", "value": 2}, {"key": "8", "value": 1}]
    assert scene.cli("tables", "dump", "follows").fine().rows == [{"key": "7/9", "value": True}]
    assert scene.cli("tables", "dump", "user-events/follows").fine().rows == [{"key": "7/9", "value": True}]


def test_get_asks_the_worker_and_says_what_is_not_there(scene: Scene) -> None:
    def get(*arguments: str) -> object:
        return scene.cli("tables", "get", *arguments, "--worker", scene.url).fine().rows

    assert get("comments", "7") == [{"key": "7", "value": 2}]
    assert get("follows", "7/9") == [{"key": "7/9", "value": True}]
    assert "follows has no 7/10" in scene.cli("tables", "get", "follows", "7/10", "--worker", scene.url).failed(1)
    assert "no worker answers at http://127.0.0.1:1" in scene.cli(
        "tables", "get", "comments", "7", "--worker", "http://127.0.0.1:1"
    ).failed(1)


def test_an_unknown_table_lists_those_that_there_are(scene: Scene) -> None:
    said = scene.cli("tables", "dump", "nothing").failed(2)
    assert "comments, follows" in said


def test_two_workers_and_the_one_without_the_partition_names_it(scene: Scene) -> None:
    with scene.cli.worker(instance="two") as second:
        until_ready(scene.url)
        ended = [scene.cli("tables", "get", "comments", "7", "--worker", url) for url in (scene.url, second)]
        (good,) = [answer for answer in ended if answer.code == 0]
        (refused,) = [answer for answer in ended if answer.code == 1]
        assert good.rows == [{"key": "7", "value": 2}]
        assert f"partition {partition_of(b'7', 2)} of comments is not here" in refused.failed(1)
        assert "--worker URL" in refused.err


async def test_errors_are_listed_in_order_of_arrival_and_filtered(scene: Scene) -> None:
    everything = scene.cli("errors", "list", "--json").fine().rows
    assert {row["class"] for row in everything} == {"ContractBroken", "NotAnObject"}
    assert [row["failed_at"] for row in everything] == sorted(row["failed_at"] for row in everything)
    limited = scene.cli("errors", "list", "--json", "--since", "1h", "--limit", "1", "--agent", "user-events").fine()
    assert limited.rows == everything[-1:]
    assert scene.cli("errors", "list", "--until", "2020-01-01T00:00:00Z").fine().out == "no errors\n"
    assert "is no time" in scene.cli("errors", "list", "--since", "yesterday").err

    async def classes(**which: Any) -> list[str]:
        found = await listed(Settings(broker=scene.broker.url), Filter(**which), None, lambda _done, _total: None)
        return [error.about["error-class"] for error in found]

    first = everything[0]
    at_ms = int(datetime.fromisoformat(first["failed_at"]).timestamp() * 1000)
    assert await classes(key="8") == ["ContractBroken"]
    assert await classes(fingerprint=first["fingerprint"][:8]) == [first["class"]]
    assert await classes(agent="nobody") == []
    assert first["class"] in await classes(since_ms=at_ms)
    assert first["class"] not in await classes(until_ms=at_ms)


def test_show_has_everything_about_an_error_and_nothing_that_a_terminal_obeys(scene: Scene) -> None:
    (listed,) = scene.cli("errors", "list", "--json", "--key", "8").fine().rows
    shown = scene.cli("errors", "show", listed["id"]).fine().out
    assert "hp-source-topic: user-events" in shown
    assert "hp-error-class: ContractBroken" in shown
    assert "In :msg_id" in shown
    assert 'Robert\\"); drop table students' in shown
    (whole,) = scene.cli("errors", "show", listed["id"], "--json").fine().rows
    value = json.loads(base64.b64decode(whole["value_base64"]))
    assert value["data"]["msg"] == NASTY
    assert whole["about"]["source-offset"] == str(listed["offset"])


@pytest.mark.parametrize("form", [["--json"], []])
def test_no_command_writes_a_control_character_that_came_in_a_record(scene: Scene, form: list[str]) -> None:
    out = scene.cli("errors", "list", *form).fine().out
    for row in scene.cli("errors", "list", "--json").rows:
        out += scene.cli("errors", "show", row["id"], *form).fine().out
    assert "Robert" in out
    assert {char for char in out if not char.isprintable()} == {"\n"}


async def test_an_id_that_is_not_there_is_an_error_with_a_reason(scene: Scene) -> None:
    settings = Settings(broker=scene.broker.url)
    for id_, reason in {"0-999999": "retention", "99-0": "no partition 99", "x": "is no id", "1-": "is no id"}.items():
        with pytest.raises(NoSuchError, match=reason):
            await one(settings, id_)
    assert "is no id" in scene.cli("errors", "show", "x").failed(1)


async def test_a_record_of_another_program_in_the_error_topic_is_shown_too(scene: Scene) -> None:
    async with AIOKafkaProducer(bootstrap_servers=scene.broker.bootstrap) as producer:
        where = await producer.send_and_wait("hardparts.errors", b"\xff\xfe", key=None, partition=0)
    id_ = f"0-{where.offset}"
    assert id_ in scene.cli("errors", "list").fine().out
    assert "value: \\xff\\xfe" in scene.cli("errors", "show", id_).fine().out


def test_the_reader_of_a_pipe_may_leave_early(scene: Scene) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "tables", "dump", "comments"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=scene.cli.directory, env=scene.cli.environment,
    ) as process:  # fmt: skip
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert b"Traceback" not in process.stderr.read()


def test_without_a_worker_get_names_the_address_that_it_asked(tmp_path: Path) -> None:
    said = CommandLine("kafka://127.0.0.1:1", tmp_path)("tables", "get", "comments", "7", web_port="1").failed(1)
    assert "http://127.0.0.1:1" in said
    assert "--worker" in said
