"""A unit that fetches again while it is told to stop, and one that is told twice."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agents import topics
from pipeline.core.effects import Publish
from pipeline.core.event import Event
from pipeline.core.record import Batch, StoredRecord
from pipeline.core.state import State
from pipeline.core.topic import Catalogue
from pipeline.runtime.agent import Agent
from pipeline.runtime.app import App
from pipeline.runtime.ownership import Owner
from pipeline.runtime.store import Store
from pipeline.runtime.unit import Unit
from tests.kafka.cluster import KafkaCluster
from tests.oracle.records import USER_EVENTS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60)]
CONTRACTS = Path(__file__).parents[2] / "agents" / "contracts"
SEEK, NEXT_SEEK = 1, 2


class CommentCreated(Event):
    """A user wrote a comment."""

    user_id: int


@dataclass
class Scene:
    """A running unit at offset 0, and a seek that ends when the test says so."""

    unit: Unit
    handled: list[int]
    asked: asyncio.Event
    answer: asyncio.Event


@pytest.fixture
async def scene(kafka: KafkaCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    for name, value in {"BROKER": kafka.bootstrap, "DATA_DIR": str(tmp_path), "APP_ID": "reseeking"}.items():
        monkeypatch.setenv(f"HARDPARTS_{name}", value)
    kafka.reset()
    kafka.create_topics(dict.fromkeys((USER_EVENTS, "changelog"), 1))
    app = App(catalogue=Catalogue.of([topics.user_events]), modules=[], contracts=CONTRACTS)
    agent = Agent(app, "small", sources=[topics.user_events])
    handled: list[int] = []

    @agent.on("comment.created")
    def comment_created(event: CommentCreated, state: State) -> list[Publish]:
        handled.append(event.offset)
        return []

    async def never(_: Unit) -> None:
        raise AssertionError("ownership is never lost")

    app.context.partitions.update({USER_EVENTS: 1})
    owner = await Owner.take(app.context.bootstrap, "reseeking/small/0", {})

    asked, answer = asyncio.Event(), asyncio.Event()

    async def reseek(_topic: str, _partition: int, offset: int) -> int:
        assert offset == 0
        asked.set()
        await answer.wait()
        return NEXT_SEEK

    unit = Unit(app.context, agent.definition, 0, "changelog", Store(tmp_path / "0"), owner, never, reseek)
    unit.start({USER_EVENTS: 0}, {USER_EVENTS: SEEK})
    yield Scene(unit, handled, asked, answer)
    await unit.stop(0)


def batch(start: int, seek: int) -> Batch:
    event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": 1, "msg": "hello"}}
    record = StoredRecord(USER_EVENTS, 0, start, 1_700_000_000_000, b"1", json.dumps(event).encode())
    return Batch(USER_EVENTS, 0, start, start + 1, seek, [record])


@pytest.mark.parametrize("stops", [True, False])
async def test_what_a_seek_brings_is_taken_unless_the_unit_was_stopped_meanwhile(scene: Scene, stops: bool) -> None:
    unit = scene.unit
    behind_a_gap = asyncio.create_task(unit.deliver(batch(5, SEEK)))
    await scene.asked.wait()
    stopping = asyncio.create_task(unit.stop(asyncio.get_running_loop().time() + 10)) if stops else None
    await asyncio.sleep(0)
    scene.answer.set()
    await behind_a_gap
    await unit.deliver(batch(0, NEXT_SEEK))
    if stopping is not None:
        await stopping
        assert unit.inbox._seeks == {}
        assert (scene.handled, unit.positions) == ([], {USER_EVENTS: 0})
    else:
        while unit.positions != {USER_EVENTS: 1}:  # noqa: ASYNC110 - the unit has no event for the test
            await asyncio.sleep(0.01)
        assert scene.handled == [0]


async def test_stopped_twice_at_once_and_again_it_is_released_once(scene: Scene) -> None:
    await asyncio.gather(scene.unit.stop(0), scene.unit.stop(0))
    await scene.unit.stop(0)
    assert not scene.unit.running


async def test_a_stop_that_was_cancelled_can_be_finished(scene: Scene, tmp_path: Path) -> None:
    stopping = asyncio.create_task(scene.unit.stop(0))
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait([stopping])
    await scene.unit.stop(0)
    Store(tmp_path / "0").close()  # its lock is free
