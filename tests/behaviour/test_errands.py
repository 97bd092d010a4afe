"""What a unit does between two batches, in its own task, on a broker."""

import asyncio
import itertools
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from agents import topics
from pipeline.broker import EmbeddedBroker
from pipeline.core.errors import Blocking
from pipeline.core.record import Batch, StoredRecord
from pipeline.runtime.ownership import OWNER_AGE_MAX_S, Owner
from pipeline.runtime.store import FENCE, Store, StoreDamaged
from pipeline.runtime.unit import Unit
from tests.behaviour.small_agent import small_agent
from tests.kafka.waiting import until

SOURCE = topics.user_events.name
WITHIN_S = 60.0


class Scene:
    """A running unit on a broker and a disk. takes: how often ownership was taken anew. slow: what a handler calls."""

    def __init__(self, broker: EmbeddedBroker, directory: Path) -> None:
        self._bootstrap = [broker.bootstrap]
        self.takes, self.handled, self._offsets = 0, list[str](), itertools.count()
        self.agent = small_agent({"comment.created": lambda event: self.handled.append(event.data["msg"])})
        self.store = Store(directory / "0")

    async def owner(self) -> Owner:
        owner = await Owner.take(self._bootstrap, "errands/small/0", {})
        await owner.append_rows("changelog", 0, [[(FENCE, b"1")]])
        return owner

    async def start(self) -> Unit:
        async def retake(unit: Unit) -> None:
            self.takes += 1
            unit.owner = await self.owner()

        async def never(*_: object) -> int:
            raise AssertionError("nothing is fetched again")

        self.unit = Unit(
            self.agent.app.context, self.agent.definition, 0, "changelog", self.store, await self.owner(), retake, never
        )
        self.unit.start({SOURCE: 0}, {SOURCE: 1})
        return self.unit

    async def deliver(self, text: str) -> None:
        event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": 1, "msg": text}}
        at = next(self._offsets)
        record = StoredRecord(SOURCE, 0, at, 1_700_000_000_000, b"1", json.dumps(event).encode())
        await self.unit.deliver(Batch(SOURCE, 0, at, at + 1, 1, [record]))


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    with EmbeddedBroker() as broker:
        for name, value in {"BROKER": broker.url, "DATA_DIR": str(tmp_path), "APP_ID": "errands"}.items():
            monkeypatch.setenv(f"HARDPARTS_{name}", value)
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("changelog", 1, 1)])
        await admin.close()
        scene = Scene(broker, tmp_path)
        unit = await scene.start()
        yield scene
        await unit.stop(0)


async def test_errands_and_batches_take_turns_and_never_overlap(scene: Scene) -> None:
    begun: list[str] = []

    async def errand(name: str) -> None:
        begun.append(name)
        before = list(scene.handled)
        await asyncio.sleep(0.05)
        await scene.unit.record_rows([[(b"row " + name.encode(), b"1")]])
        assert scene.handled == before, "no batch in the middle of an errand"

    asked = []
    for name in "abc":
        asked.append(scene.unit.errands.ask(lambda name=name: errand(name)))
        await scene.deliver(name)
    await asyncio.wait_for(asyncio.gather(*asked), WITHIN_S)
    await until(lambda: len(scene.handled) == 3, WITHIN_S, "the batches are handled too")
    assert begun == scene.handled == ["a", "b", "c"]
    assert [scene.store.get(b"row " + name) for name in (b"a", b"b", b"c")] == [b"1"] * 3


async def test_an_idle_unit_wakes_up_for_an_errand(scene: Scene) -> None:
    done = asyncio.Event()

    async def errand() -> None:
        done.set()

    await asyncio.wait_for(scene.unit.errands.ask(errand), WITHIN_S)
    assert done.is_set()


async def test_what_an_errand_raises_goes_to_who_asked_and_the_unit_goes_on(scene: Scene) -> None:
    async def away() -> None:
        raise Blocking("not now", "database")

    with pytest.raises(Blocking, match="not now"):
        await asyncio.wait_for(scene.unit.errands.ask(away), WITHIN_S)
    await scene.deliver("next")
    await until(lambda: scene.handled == ["next"], WITHIN_S, "the batch behind it is handled")
    assert scene.takes == 0


async def test_an_errand_that_finds_another_owner_fails_and_ownership_is_taken_anew(scene: Scene) -> None:
    intruder = await scene.owner()

    async def write() -> None:
        await scene.unit.record_rows([[(b"row", b"late")]])

    with pytest.raises(Exception, match="another owner"):
        await asyncio.wait_for(scene.unit.errands.ask(write), WITHIN_S)
    assert scene.store.get(b"row") is None
    await asyncio.wait_for(scene.unit.errands.ask(write), WITHIN_S)
    assert scene.takes == 1
    assert scene.store.get(b"row") == b"late"
    await intruder.abandon()


async def test_an_errand_that_meets_damaged_state_has_it_rebuilt(scene: Scene) -> None:
    async def damaged() -> None:
        raise StoreDamaged("Corruption: a test says so")

    with pytest.raises(StoreDamaged):
        await asyncio.wait_for(scene.unit.errands.ask(damaged), WITHIN_S)
    await scene.deliver("next")
    await until(lambda: scene.handled == ["next"], WITHIN_S, "the unit goes on")
    assert scene.takes == 1
    assert scene.unit.store is not scene.store


async def test_an_owner_that_is_too_old_is_replaced_before_an_errand(scene: Scene) -> None:
    scene.unit.owner.taken_at_s -= OWNER_AGE_MAX_S + 1

    async def nothing() -> None:
        assert scene.unit.owner.age_s < OWNER_AGE_MAX_S

    await asyncio.wait_for(scene.unit.errands.ask(nothing), WITHIN_S)
    assert scene.takes == 1


async def test_errands_that_wait_when_the_unit_ends_are_cancelled_and_later_ones_too(scene: Scene) -> None:
    begun = asyncio.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def never() -> None:
        raise AssertionError("the unit has ended")

    first, second = scene.unit.errands.ask(endless), scene.unit.errands.ask(never)
    await asyncio.wait_for(begun.wait(), WITHIN_S)
    await scene.unit.stop(0)
    assert first.cancelled()
    assert second.cancelled()
    assert scene.unit.errands.ask(never).cancelled()
