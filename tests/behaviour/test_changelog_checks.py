"""A changelog that lost rows, or would lose them, stops a worker: state rebuilt from it would be wrong."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from pipeline.broker import EmbeddedBroker
from pipeline.runtime.ownership import Owner
from pipeline.runtime.recovery import ChangelogTruncated, Restoring, restore
from pipeline.runtime.store import FENCE, Store
from tests.behaviour.place import Place
from tests.oracle.process import WorkerEnded

ROWS = 5
DELETED = 3


async def configure(bootstrap: str, topic: str, **config: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        named = {name.replace("_", "."): value for name, value in config.items()}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, named)])
    finally:
        await admin.close()


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
def test_a_changelog_from_which_the_broker_deletes_rows_is_refused_at_start(tmp_path: Path, policy: str) -> None:
    with Place(tmp_path, partitions=1) as place:
        changelog = f"{place.app_id}-user-events-changelog"
        asyncio.run(configure(place.bootstrap, changelog, cleanup_policy=policy))
        with pytest.raises(WorkerEnded, match="exited 2") as ended:
            place.worker()
        assert f"changelog {changelog} has cleanup.policy={policy}" in str(ended.value)
        assert "hardparts topics apply" in str(ended.value)
        place.cli("topics", "apply").fine()
        assert place.worker().stop() == 0


def test_a_topic_that_takes_next_to_nothing_is_refused_at_start(tmp_path: Path) -> None:
    with Place(tmp_path, partitions=1) as place:
        asyncio.run(configure(place.bootstrap, "user-events", max_message_bytes="1000"))  # only read
        assert place.worker().stop() == 0
        asyncio.run(configure(place.bootstrap, "comment-counts", max_message_bytes="1000"))
        with pytest.raises(WorkerEnded, match="exited 2") as ended:
            place.worker("two")
        assert "topic comment-counts has max.message.bytes=1000" in str(ended.value)


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


async def truncated(broker: EmbeddedBroker) -> tuple[str, int]:
    """A changelog of five rows and a fence whose first three rows have been deleted; and the fence's offset."""
    topic = f"changelog-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"cleanup.policy": "compact"})])
        owner = await Owner.take([broker.bootstrap], f"app/{topic}/0", {})
        for number in range(ROWS):
            await owner.append_rows(topic, 0, [[(b"row%d" % number, b"x")]])
        end = await owner.append_rows(topic, 0, [[(FENCE, b"1")]])
        await owner.abandon()
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(DELETED)})
    finally:
        await admin.close()
    return topic, end - 1


@pytest.mark.parametrize("offset", [None, DELETED - 1, DELETED, ROWS])
async def test_rows_that_the_changelog_has_lost_are_missed_unless_they_are_here(
    broker: EmbeddedBroker, tmp_path: Path, offset: int | None
) -> None:
    topic, fence = await truncated(broker)
    store = Store(tmp_path / "0")
    if offset is not None:
        store.apply([(b"row%d" % number, b"x") for number in range(offset)], offset)
    unit = Restoring("small/0", topic, 0, store, fence)
    try:
        if offset in (DELETED, ROWS):
            await restore([broker.bootstrap], {}, [unit], None)
            assert all(unit.store.get(b"row%d" % number) is not None for number in range(ROWS))
        else:
            with pytest.raises(ChangelogTruncated, match=rf"{topic}\[0\] begins at offset 3"):
                await restore([broker.bootstrap], {}, [unit], None)
            assert unit.store.offset == offset, "what is here stays"
    finally:
        unit.store.close()
