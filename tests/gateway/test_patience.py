"""Waiting for the disk has an end, which is sooner when the disk is known to fail; who is cancelled stays cancelled."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from pipeline.gateway.patience import Patience
from pipeline.producer.spill import Spill
from tests.gateway.gateways import comment, gateway, in_topic, scripted
from tests.kafka.waiting import until


async def wait_for_ever(patience: Patience) -> None:
    with patience.wait():
        await asyncio.Event().wait()


async def watched(timeout_s: float) -> tuple[Patience, asyncio.Task[None]]:
    patience = Patience(timeout_s)
    return patience, asyncio.create_task(patience.watch())


async def test_it_ends_with_a_timeout_and_the_task_goes_on() -> None:
    patience, watching = await watched(0.01)
    task = asyncio.current_task()
    assert task is not None
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait_for_ever(patience), 60)
        with pytest.raises(TimeoutError):
            await wait_for_ever(patience)
    assert task.cancelling() == 0
    with patience.wait():
        await asyncio.sleep(0)
    watching.cancel()


async def test_all_who_wait_can_be_hurried_and_others_are_left_alone() -> None:
    patience, watching = await watched(600)
    waits = [asyncio.create_task(wait_for_ever(patience)) for _ in range(3)]
    await asyncio.sleep(0)
    patience.hurry(0)
    late = asyncio.create_task(wait_for_ever(patience))
    results = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 60)
    assert [type(result) for result in results] == [TimeoutError] * 3
    assert not late.done()
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    watching.cancel()


async def fail(patience: Patience) -> None:
    with patience.wait():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise LookupError from None


async def test_an_error_of_the_block_stays_what_it_is() -> None:
    patience, watching = await watched(0.0)
    with pytest.raises(LookupError):
        await asyncio.wait_for(fail(patience), 60)
    watching.cancel()


async def test_a_disk_that_does_not_answer_is_told_and_what_it_takes_later_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, answers = scripted(), threading.Event()
    sync = Spill.sync

    def hangs(spill: Spill) -> None:
        answers.wait(100)
        sync(spill)

    monkeypatch.setattr("pipeline.gateway.custody.ACCEPT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(Spill, "sync", hangs)
    async with gateway(tmp_path, cluster) as ask:
        event = comment()
        refused = await ask.post(event)
        assert (refused.status, refused.body["name"]) == (503, "no_custody")
        assert (await ask("GET", "/health/live")).status == 200
        answers.set()
        await until(lambda: in_topic(cluster) == [event["msg_id"]], 60, "it was taken all the same")
