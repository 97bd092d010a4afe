"""A command that asks a worker or a gateway and gets one of another application, or of another cluster."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from pipeline.broker import EmbeddedBroker
from tests.behaviour.commandline import CommandLine
from tests.kafka.waiting import until

TOKEN = "another-token"


class Scene(NamedTuple):
    """A worker of application `ours` at `url`, which has counted one comment of user 7."""

    cli: CommandLine
    url: str
    directory: Path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("another")
    with EmbeddedBroker() as broker:
        cli = CommandLine(broker.url, directory, agents="user-events", app_id="ours", web_token=TOKEN)
        cli("topics", "apply").fine()
        event = {"msg_id": str(uuid4()), "type": "comment.created", "data": {"user_id": 7, "msg": "a"}}
        cli("send", "user-events", stdin=json.dumps({"key": "7", "value": event})).fine()
        with cli.worker() as url:
            asyncio.run(until(lambda: cli("tables", "dump", "comments").fine().rows, 60, "the comment is counted"))
            yield Scene(cli, url, directory)


def counted(scene: Scene) -> bool:
    return scene.cli("tables", "get", "comments", "7", "--worker", scene.url).fine().rows == [{"key": "7", "value": 1}]


def test_a_worker_of_another_application_is_refused_by_name(scene: Scene) -> None:
    for command in (("tables", "get", "comments", "7"), ("erase", "7")):
        said = scene.cli(*command, "--worker", scene.url, app_id="theirs").failed(1)
        assert f"{scene.url} belongs to application ours on cluster " in said
        assert "expected application theirs" in said
    assert counted(scene)


@pytest.mark.slow
def test_a_worker_of_another_cluster_is_refused_by_name(scene: Scene, tmp_path: Path) -> None:
    with EmbeddedBroker() as other:
        said = scene.cli("erase", "7", "--worker", scene.url, broker=other.url).failed(1)
    assert f"{scene.url} belongs to application ours on cluster " in said
    assert "expected application ours on cluster " in said
    kept = tmp_path / "ours" / "one" / "cluster"
    kept.parent.mkdir(parents=True)
    kept.write_text("the-other-cluster\n")
    get = ("tables", "get", "comments", "7", "--worker", scene.url)
    assert "on cluster the-other-cluster" in scene.cli(*get, data_dir=str(tmp_path)).failed(1)
    assert counted(scene)


@asynccontextmanager
async def older_worker() -> AsyncIterator[str]:
    """As one answers that doesn't say whose it is."""

    async def row(_: web.Request) -> web.Response:
        return web.json_response({"key": "7", "value": 2, "partition": 0})

    async def erased(_: web.Request) -> web.Response:
        raise AssertionError("asked to erase")

    app = web.Application()
    app.router.add_get("/health/live", row)
    app.router.add_get("/state/comments/7", row)
    app.router.add_post("/erase", erased)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_a_worker_that_does_not_say_whose_it_is_may_show_state_but_not_erase(scene: Scene) -> None:
    async with older_worker() as url:
        shown = await asyncio.to_thread(scene.cli, "tables", "get", "comments", "7", "--worker", url)
        assert (shown.code, shown.rows) == (0, [{"key": "7", "value": 2}])
        assert shown.err.startswith("warning: ")
        refused = await asyncio.to_thread(scene.cli, "erase", "7", "--worker", url)
        assert f"{url} doesn't say which application it belongs to" in refused.failed(1)


async def test_a_worker_that_did_not_answer_at_first_is_checked_before_it_is_asked_to_erase(scene: Scene) -> None:
    asked: list[str] = []

    async def health(request: web.Request) -> web.Response:
        asked.append(request.path)
        if len(asked) < 2 and request.transport is not None:
            request.transport.write(b"no HTTP\r\n\r\n")  # type: ignore[attr-defined]  # a lost connection is tried again
            request.transport.close()
        return web.json_response({}, headers={"hp-app": "theirs", "hp-cluster": "x" * 22})

    async def erased(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"partition": 0, "rows": {}, "sql": {}})

    app = web.Application()
    app.router.add_get("/health/live", health)
    app.router.add_post("/erase", erased)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        refused = await asyncio.to_thread(scene.cli, "erase", "7", "--worker", url)
        assert f"{url} belongs to application theirs" in refused.failed(1)
    assert asked.count("/health/live") > 1
    assert "/erase" not in asked


async def test_every_page_tells_application_and_cluster(scene: Scene) -> None:
    async with ClientSession() as session:
        for path in ("/health/live", "/health/ready", "/metrics", "/state/nothing/7"):
            async with session.get(scene.url + path) as answer:
                assert answer.headers["hp-app"] == "ours"
                assert len(answer.headers["hp-cluster"]) >= 22


async def test_a_gateway_of_another_application_is_refused_by_name(scene: Scene) -> None:
    with scene.cli.running("gateway", "--port", "0") as gateway:
        assert gateway.stdout is not None
        url = (await asyncio.to_thread(gateway.stdout.readline)).removeprefix("ready ").strip()
        for command in (("list",), ("replay",), ("discard", "1")):
            said = await asyncio.to_thread(scene.cli, "undelivered", *command, "--gateway", url, app_id="theirs")
            assert f"{url} belongs to application ours, expected application theirs" in said.failed(1)
        listed = await asyncio.to_thread(scene.cli, "undelivered", "list", "--json", "--gateway", url)
        assert listed.fine().rows == []
        gateway.terminate()
        await until(lambda: gateway.poll() is not None, 20, "the gateway has ended")
