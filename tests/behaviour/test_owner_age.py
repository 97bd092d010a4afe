"""An owner that has written for days takes ownership anew, before brokers forget what refuses its predecessors."""

import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from agents import topics
from pipeline.broker import EmbeddedBroker
from pipeline.core.record import Batch, StoredRecord
from pipeline.runtime.ownership import OWNER_AGE_MAX_S, Owner
from pipeline.runtime.store import FENCE, Store
from pipeline.runtime.unit import Unit
from tests.behaviour.small_agent import small_agent

SOURCE = topics.user_events.name


def batch(start: int) -> Batch:
    event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": 1, "msg": "hello"}}
    record = StoredRecord(SOURCE, 0, start, 1_700_000_000_000, b"1", json.dumps(event).encode())
    return Batch(SOURCE, 0, start, start + 1, 1, [record])


@pytest.fixture
async def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Unit]:
    """A unit on a broker and a disk; taking ownership anew writes a fence, as a takeover does."""
    with EmbeddedBroker() as broker:
        for name, value in {"BROKER": broker.url, "DATA_DIR": str(tmp_path), "APP_ID": "ageing"}.items():
            monkeypatch.setenv(f"HARDPARTS_{name}", value)
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("changelog", 1, 1)])
        await admin.close()
        agent = small_agent({"comment.created": lambda event: None})

        async def retake(unit: Unit) -> None:
            unit.owner = await Owner.take([broker.bootstrap], "ageing/small/0", {})
            await unit.owner.append_rows("changelog", 0, [[(FENCE, b"1")]])

        async def never(*_: object) -> int:
            raise AssertionError("nothing is fetched again")

        owner = await Owner.take([broker.bootstrap], "ageing/small/0", {})
        unit = Unit(
            agent.app.context,
            agent.definition,
            0,
            "changelog",
            Store(tmp_path / "0"),
            owner,
            retake=retake,
            reseek=never,
        )
        unit.positions[SOURCE] = 0
        yield unit
        await unit.stop(0)


async def test_an_old_owner_is_replaced_before_the_next_batch(unit: Unit) -> None:
    young = unit.owner
    await unit.process(batch(0))
    assert unit.owner is young
    young.taken_at_s -= OWNER_AGE_MAX_S + 1
    await unit.process(batch(1))
    assert unit.owner is not young
    assert unit.owner.age_s < OWNER_AGE_MAX_S
    assert unit.positions == {SOURCE: 2}
