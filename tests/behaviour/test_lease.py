"""The lease: who has had no heartbeat for a session timeout writes nothing, since somebody else may own the unit."""

from pathlib import Path
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from agents import topics
from pipeline.broker import EmbeddedBroker
from pipeline.core.errors import OwnershipLost
from pipeline.core.topic import Catalogue
from pipeline.runtime.app import App
from pipeline.runtime.clock import lease_now_s
from pipeline.runtime.ownership import Owner

ROW = [(b"key", b"value")]
CONTRACTS = Path(__file__).parents[2] / "agents" / "contracts"


async def test_without_the_lease_nothing_is_sent() -> None:
    held = True
    with EmbeddedBroker() as broker:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("changelog", 1, 1)])
        await admin.close()
        owner = await Owner.take([broker.bootstrap], "app/agent/0", {}, lambda: held)
        assert await owner.append_rows("changelog", 0, [ROW]) == 1
        held = False
        with pytest.raises(OwnershipLost, match="no heartbeat"):
            await owner.append_rows("changelog", 0, [ROW])
        consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap)
        await consumer.start()
        assert list((await consumer.end_offsets([TopicPartition("changelog", 0)])).values()) == [1]
        await consumer.stop()
        await owner.abandon()


def test_a_lease_lasts_a_session_from_the_last_heartbeat_that_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"BROKER": "kafka://127.0.0.1:1", "DATA_DIR": str(tmp_path), "SESSION_TIMEOUT_S": "10"}.items():
        monkeypatch.setenv(f"HARDPARTS_{name}", value)
    app = App(catalogue=Catalogue.of([topics.user_events]), modules=[], contracts=CONTRACTS)
    assert not app.context.holds_lease(), "nothing was answered yet"
    group = cast(Any, app.consumer).group
    group.heartbeat_at_s = lease_now_s() - 9
    assert app.context.holds_lease()
    group.heartbeat_at_s = lease_now_s() - 11
    assert not app.context.holds_lease()


@pytest.mark.parametrize(("session_s", "heartbeat_s"), [("2", 0.4), ("30", 1.0), ("300", 1.0)])
def test_a_worker_learns_within_a_second_that_another_one_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session_s: str, heartbeat_s: float
) -> None:
    """The group tells it in the answer to a heartbeat."""
    environment = {"BROKER": "kafka://127.0.0.1:1", "DATA_DIR": str(tmp_path), "SESSION_TIMEOUT_S": session_s}
    for name, value in environment.items():
        monkeypatch.setenv(f"HARDPARTS_{name}", value)
    app = App(catalogue=Catalogue.of([topics.user_events]), modules=[], contracts=CONTRACTS)
    assert app.conf.broker_heartbeat_interval == heartbeat_s
