"""A unit that is told to stop finishes what it has in hand and touches nothing that comes after."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agents import topics
from pipeline.core.effects import Publish, publish
from pipeline.core.event import Event
from pipeline.core.record import Batch, StoredRecord
from pipeline.core.state import State
from pipeline.core.topic import Catalogue
from pipeline.core.views import MsgIdSet
from pipeline.runtime.agent import Agent
from pipeline.runtime.app import App
from pipeline.runtime.ownership import Owner
from pipeline.runtime.store import Store
from pipeline.runtime.unit import Unit
from tests.kafka.cluster import KafkaCluster
from tests.kafka.waiting import until
from tests.oracle.records import COMMENT_COUNTS, USER_EVENTS
from tests.oracle.truth import read

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60)]
CONTRACTS = Path(__file__).parents[2] / "agents" / "contracts"
SEEK = 1
comments = MsgIdSet("comments")


class CommentCreated(Event):
    """A user wrote a comment."""

    user_id: int


def batch(start: int, count: int = 3) -> Batch:
    """Comments of one user at these offsets."""
    records = []
    for offset in range(start, start + count):
        event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": 1, "msg": "hello"}}
        records.append(StoredRecord(USER_EVENTS, 0, offset, 1_700_000_000_000, b"1", json.dumps(event).encode()))
    return Batch(USER_EVENTS, 0, start, start + count, SEEK, records)


@pytest.fixture
def handled() -> list[int]:
    """Offsets of the records that the handler has got, in order."""
    return []


@pytest.fixture
async def unit(
    kafka: KafkaCluster, tmp_path: Path, handled: list[int], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Unit]:
    """A running unit on a real broker and a real disk, at offset 0."""
    for name, value in {"BROKER": kafka.bootstrap, "DATA_DIR": str(tmp_path), "APP_ID": "stopping"}.items():
        monkeypatch.setenv(f"HARDPARTS_{name}", value)
    kafka.reset()
    kafka.create_topics(dict.fromkeys((USER_EVENTS, COMMENT_COUNTS, "changelog"), 1))
    catalogue = Catalogue.of([topics.user_events, topics.comment_counts])
    app = App(catalogue=catalogue, modules=[], contracts=CONTRACTS)
    agent = Agent(app, "small", sources=[topics.user_events], outputs=[topics.comment_counts], state=[comments])

    @agent.on("comment.created")
    def comment_created(event: CommentCreated, state: State) -> list[Publish]:
        handled.append(event.offset)
        total = comments.of(state).add(event.msg_id)
        return [publish(topics.comment_counts, "comment.counted", user_id=event.user_id, count=total)]

    async def never(*_: object) -> int:
        raise AssertionError("nothing is fetched again")

    app.context.partitions.update({USER_EVENTS: 1, COMMENT_COUNTS: 1})
    owner = await Owner.take(app.context.bootstrap, "stopping/small/0", {})
    unit = Unit(app.context, agent.definition, 0, "changelog", Store(tmp_path / "0"), owner, never, never)
    unit.start({USER_EVENTS: 0}, {USER_EVENTS: SEEK})
    yield unit
    if not unit.owner._producer._closed:
        await unit.stop(0)


async def counts(kafka: KafkaCluster) -> list[int]:
    log = (await read(kafka.bootstrap, [COMMENT_COUNTS]))[COMMENT_COUNTS]
    return [json.loads(record.value or b"")["data"]["count"] for record in log[0]]


async def test_a_batch_that_arrives_while_it_stops_is_not_begun(
    kafka: KafkaCluster, unit: Unit, handled: list[int]
) -> None:
    """One that waited before it has been dropped: on the state without that one, its outputs would be wrong."""
    await unit.deliver(batch(0))
    while unit.owner.waiting_since is None:  # noqa: ASYNC110 - until its outputs are on their way, no longer
        await asyncio.sleep(0)
    await unit.deliver(batch(3))
    stopping = asyncio.create_task(unit.stop(time.monotonic() + 10))
    await asyncio.sleep(0)
    await unit.deliver(batch(6))
    await stopping
    assert handled == [0, 1, 2]
    assert unit.positions == {USER_EVENTS: 3}
    assert await counts(kafka) == [1, 2, 3]


async def test_a_unit_refuses_to_go_on_behind_a_gap(kafka: KafkaCluster, unit: Unit, handled: list[int]) -> None:
    errors: list[BaseException] = []
    unit.context.fatal = errors.append
    await unit.deliver(batch(0))
    unit.inbox._waiting.append(batch(6))  # as if one between had been dropped inside this process
    await until(lambda: not unit.running, 10, "the unit has given up")
    assert [str(error) for error in errors] == ["user-events[0]: a batch begins at 6, but 3 is the next to handle"]
    assert handled == [0, 1, 2]
    assert unit.positions == {USER_EVENTS: 3}
    assert await counts(kafka) == [1, 2, 3]
