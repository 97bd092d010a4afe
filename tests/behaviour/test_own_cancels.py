"""A handler that cancels the task it runs in ends neither its unit nor the worker; the end of a unit ends handlers."""

import asyncio
import contextlib

import pytest

from pipeline.core.errors import Blocking
from pipeline.testing import Kit
from tests.behaviour.small_agent import small_agent
from tests.behaviour.test_bad_effects import KINDS, POLICIES, Scene
from tests.kafka.waiting import until


def cancelling(_event, _state):
    asyncio.current_task().cancel()
    return []


def cancelling_and_raising(_event, _state):
    asyncio.current_task().cancel()
    raise ValueError("odd")


def leaving_the_count_raised(_event, _state):
    """As a library does that cancels for a timeout, catches it, and doesn't take it back."""
    task = asyncio.current_task()
    while task.cancelling() < 3:
        task.cancel()
        task.uncancel()
        task.cancel()
    return []


@POLICIES
@KINDS
@pytest.mark.parametrize("does", [cancelling, cancelling_and_raising, leaving_the_count_raised])
def test_a_handler_that_cancels_its_own_task_ends_neither_unit_nor_worker(does, kind, on_bug):
    outcome = Scene(kind, on_bug).became(does)
    if kind in ("plain", "generator") and does is not cancelling_and_raising:
        assert outcome == "applied"  # nothing is awaited, so a cancel has nothing to end
    else:
        assert outcome.startswith("blocked: bug" if on_bug == "block" else "rejected: ")


@POLICIES
@pytest.mark.parametrize("afterwards", ["awaits", "catches it", "has a timeout", "is over"])
def test_a_cancel_inside_an_async_handler_is_its_own_affair(afterwards, on_bug):
    async def handler(event, _state):
        if event.data["msg"] != "bad" or done:
            return []
        done.append(1)
        task = asyncio.current_task()
        if afterwards == "is over":
            asyncio.get_running_loop().call_soon(task.cancel)
            return []
        task.cancel()
        if afterwards == "awaits":
            await asyncio.sleep(3600)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        if afterwards == "has a timeout":
            raise Blocking("no answer", "service")
        return []

    done = []
    kit = Kit(small_agent({"comment.created": handler}, on_bug=on_bug), attempts_max=2)
    for key, text in enumerate(("good", "bad", "good", "bad")):
        kit.given("comment.created", user_id=key % 2, msg=text)
        kit.given("comment.created", user_id=key % 2, msg="good")
    kit.run()
    assert kit.worker.fatal is None, repr(kit.worker.fatal)
    assert kit.blocked() is None
    assert kit.worker.unit(0).positions["user-events"] == 8
    assert len(kit.rejections()) == (afterwards == "awaits" and on_bug == "error-topic")


@pytest.mark.parametrize("swallowed", [False, True])
def test_the_end_of_a_unit_ends_its_handlers_at_once(swallowed):
    begun = []

    async def handler(_event, _state):
        begun.append(1)
        task = asyncio.current_task()
        if swallowed:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
        await asyncio.sleep(3600)

    async def stopped() -> None:
        running = asyncio.create_task(kit.worker.run())
        await until(lambda: len(begun) == 2, 10, "a handler of each key runs")
        running.cancel()
        await asyncio.wait([running], timeout=10)
        assert running.cancelled()

    kit = Kit(small_agent({"comment.created": handler}))
    for key in (1, 2, 1, 2):
        kit.given("comment.created", user_id=key, msg="x")
    kit._loop.run_until_complete(stopped())
    assert len(begun) == 2
    assert kit.worker.unit(0).positions["user-events"] == 0
