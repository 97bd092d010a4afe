"""A unit by itself, on memory in a broker's place: its stop while it takes ownership anew, and going back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pipeline.core.outcome import Rejected, Rejection
from pipeline.core.record import Batch, StoredRecord
from pipeline.runtime import unit as module
from pipeline.runtime.unit import Unit
from pipeline.testing import Kit
from pipeline.testing.store import MemoryStore
from tests.behaviour.small_agent import small_agent
from tests.kafka.waiting import until

TOPIC = "user-events"
CLEAN_UP_S = 2.0
"""What closing two clients takes at most."""


@pytest.fixture
def handled() -> list[int]:
    """Offsets that the handler has got."""
    return []


@pytest.fixture
async def made(handled: list[int]) -> AsyncIterator[Callable[..., Unit]]:
    """Makes the unit, given what takes its ownership anew."""

    def comment_created(event: Any, _state: Any) -> list[Any]:
        handled.append(event.offset)
        return []

    async def reseek(*_: object) -> int:
        return 2

    kit = Kit(small_agent({"comment.created": comment_created}))

    def make(retake: Any = None) -> Unit:
        worker = kit.worker
        return Unit(worker.context, worker.agent, 0, "log", MemoryStore(), worker._owner(0), retake, reseek)

    yield make
    kit.close()


def batch(kit_value: bytes, start: int, seek: int) -> Batch:
    record = StoredRecord(TOPIC, 0, start, 1_700_000_000_000, b"1", kit_value)
    return Batch(TOPIC, 0, start, start + 1, seek, [record])


COMMENT = b'{"msg_id":"6f1c2f9a-5a0e-4d59-9f0a-3d5d9b1f2a11","type":"comment.created","data":{"user_id":1,"msg":"x"}}'


async def test_a_stop_lets_a_takeover_that_is_under_way_close_what_it_has_opened(
    made: Callable[..., Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OWNER_AGE_MAX_S", -1.0)
    taking, closed = asyncio.Event(), []

    async def retake(_unit: Unit) -> None:
        taking.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(CLEAN_UP_S)
            closed.append(True)

    unit = made(retake)
    unit.start({TOPIC: 0}, {TOPIC: 1})
    await unit.deliver(batch(COMMENT, 0, 1))
    await asyncio.wait_for(taking.wait(), 10)
    await asyncio.wait_for(unit.stop(0), 30)
    assert closed == [True]
    assert not unit.running


@pytest.mark.parametrize("way", ["goes back", "begins again"])
async def test_what_was_found_of_a_record_is_not_held_against_the_one_in_its_place(
    made: Callable[..., Unit], handled: list[int], way: str
) -> None:
    """A topic that was made again, or whose log has lost its end, has another record at that offset."""
    unit = made()
    before = batch(b"", 0, 1).records[0]
    unit._handling.condemned[TOPIC, 0] = Rejected(before, Rejection("DataRefused", "the database refuses its row"))
    unit.start({TOPIC: 5}, {TOPIC: 1})
    if way == "goes back":
        await unit.go_back({TOPIC: 0})
        await unit.deliver(batch(COMMENT, 0, 2))
    else:
        await unit.deliver(Batch(TOPIC, 0, 5, 0, 1, []))
        await unit.deliver(batch(COMMENT, 0, 1))
    await until(lambda: unit.positions == {TOPIC: 1}, 10, "the record is finished")
    assert handled == [0]
    await unit.stop(0)
