"""What a webhook hears of alerts: in order, and again when it didn't take one (E3)."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pipeline.runtime import alerts as module
from pipeline.runtime.alerts import Alerts
from tests.behaviour.place import Place
from tests.kafka.webhook import Webhook

Post = tuple[str, str]


@contextlib.asynccontextmanager
async def webhook(answer):
    """A server on loopback; `answer(name, state)` gives the status of each post."""

    async def post(request: web.Request) -> web.Response:
        body = await request.json()
        return web.Response(status=await answer(body["alert"], body["state"]))

    app = web.Application()
    app.router.add_post("/alerts", post)
    async with TestServer(app) as server:
        yield Alerts(str(server.make_url("/alerts")))


async def test_an_alert_is_not_closed_before_it_is_opened():
    answered: list[str] = []
    overtaken = asyncio.Event()

    async def answer(_name: str, state: str) -> int:
        if state == "open":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(overtaken.wait(), 0.3)
        else:
            overtaken.set()
        answered.append(state)
        return 204

    async with webhook(answer) as alerts:
        alerts.opened("broker")
        alerts.closed("broker")
        await alerts.drain()
    assert answered == ["open", "closed"]


async def test_what_a_webhook_did_not_take_is_sent_three_times_and_the_next_one_after_it(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    posts: list[Post] = []

    async def answer(name: str, state: str) -> int:
        posts.append((name, state))
        return 503 if name == "never" or len(posts) == 1 else 204

    async with webhook(answer) as alerts:
        alerts.opened("late")
        alerts.opened("never")
        alerts.closed("late")
        await alerts.drain()
    assert posts == [("late", "open")] * 2 + [("never", "open")] * 3 + [("late", "closed")]


async def test_a_webhook_that_hangs_delays_the_end_by_one_time_limit(monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_S", 1.0)
    gone = asyncio.Event()

    async def answer(_name: str, _state: str) -> int:
        await gone.wait()
        return 204

    async with webhook(answer) as alerts:
        for number in range(10):
            alerts.opened(str(number))
        began_s = time.monotonic()
        await alerts.drain()
        assert time.monotonic() - began_s < 8  # each of the ten alone would wait a second, at least
        gone.set()


async def test_more_alerts_than_can_wait_are_named_in_the_log(monkeypatch, caplog):
    monkeypatch.setattr(module, "WAITING_MAX", 2)
    posts: list[Post] = []

    async def answer(name: str, state: str) -> int:
        posts.append((name, state))
        return 204

    async with webhook(answer) as alerts:
        for name in "abc":
            alerts.opened(name)
        await alerts.drain()
    assert posts == [("a", "open"), ("b", "open")]
    assert "not told that c is open" in caplog.text


@pytest.mark.parametrize("times", [1, 2])
async def test_alerts_go_on_after_a_drain(times):
    posts: list[Post] = []

    async def answer(name: str, state: str) -> int:
        posts.append((name, state))
        return 204

    async with webhook(answer) as alerts:
        for number in range(times):
            alerts.opened(str(number))
            await alerts.drain()
    assert len(posts) == times


async def test_a_process_that_ends_closes_what_the_next_one_opens_again_by_itself():
    posts: list[Post] = []

    async def answer(name: str, state: str) -> int:
        posts.append((name, state))
        return 204

    seen_anew = ["topics/events", "partitions/events", "open-transaction/events/0"]
    async with webhook(answer) as alerts:
        for name in ("blocked:a:0", *seen_anew):
            alerts.opened(name)
        await alerts.drain()
    assert [name for name, state in posts if state == "closed"] == seen_anew


async def test_a_worker_that_starts_closes_the_alert_about_the_cluster_that_ended_the_one_before(tmp_path: Path):
    with Webhook() as told, Place(tmp_path, partitions=1, alert_webhook=told.url) as place:
        for number in (1, 2):
            assert await asyncio.to_thread(lambda: place.worker().stop()) == 0
            assert (told.starts, told.received) == (number, [])
