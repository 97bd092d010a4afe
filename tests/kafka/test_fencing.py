"""A unit's producer on a real broker: older owners are refused, broken ones replaced, lost leaders not noticed."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.core.errors import OwnershipLost
from pipeline.runtime.ownership import Owner, ProducerBroken
from tests.kafka.cluster import KafkaCluster
from tests.kafka.waiting import until
from tests.oracle.truth import read

pytestmark = [pytest.mark.kafka, pytest.mark.versions, pytest.mark.timeout(120)]
ROW = [(b"key", b"value")]


async def take(cluster: KafkaCluster, unit: str) -> Owner:
    return await Owner.take(cluster.bootstrap.split(","), unit, {})


def waits(owner: Owner) -> bool:
    return owner.waiting_since is not None


async def values(cluster: KafkaCluster, topic: str, partition: int = 0) -> list[bytes | None]:
    return [record.value for record in (await read(cluster.bootstrap, [topic]))[topic][partition]]


async def test_a_late_write_of_the_older_owner_is_refused_once_the_newer_one_wrote(
    kafka: KafkaCluster, changelog: str
) -> None:
    unit = f"app/{changelog}/0"
    older = await take(kafka, unit)
    assert await older.append_rows(changelog, 0, [[(b"k", b"older")]]) == 1
    newer = await take(kafka, unit)
    assert await newer.append_rows(changelog, 0, [[(b"k", b"newer")]]) == 2
    for _ in range(2):
        with pytest.raises(OwnershipLost):
            await older.append_rows(changelog, 0, [[(b"k", b"late")]])
    assert await newer.append_rows(changelog, 0, [[(b"k", b"newest")]]) == 3
    assert await values(kafka, changelog) == [b"older", b"newer", b"newest"]
    await asyncio.gather(older.abandon(), newer.abandon())


async def test_owners_of_other_units_are_not_refused(kafka: KafkaCluster, changelog: str) -> None:
    one, two = await take(kafka, f"app/{changelog}/0"), await take(kafka, f"app/{changelog}/1")
    for number in range(3):
        assert await one.append_rows(changelog, 0, [ROW]) == number + 1
        assert await two.append_rows(changelog, 1, [ROW]) == number + 1
    await asyncio.gather(one.abandon(), two.abandon())


async def test_a_record_that_the_topic_refuses_breaks_the_producer_and_a_new_owner_goes_on(kafka: KafkaCluster) -> None:
    topic = f"changelog-{uuid.uuid4().hex[:8]}"
    kafka.create_topics({topic: 1}, {"max.message.bytes": "2000"})
    owner = await take(kafka, f"app/{topic}/0")
    await owner.append_rows(topic, 0, [[(b"k", b"1")]])
    with pytest.raises(ProducerBroken, match="MessageSizeTooLarge"):
        await owner.append_rows(topic, 0, [[(b"k", b"x" * 5_000)]])
    await owner.abandon()
    successor = await take(kafka, f"app/{topic}/0")
    assert await successor.append_rows(topic, 0, [[(b"k", b"2")]]) == 2
    assert await values(kafka, topic) == [b"1", b"2"]
    await successor.abandon()


async def test_an_owner_waits_until_the_last_of_its_batches_is_acknowledged(
    kafka: KafkaCluster, changelog: str
) -> None:
    """What the alert about an unresponsive broker goes by."""
    owner = await take(kafka, f"app/{changelog}/0")
    batches = []
    for topic in (changelog, "no-such-topic"):
        builder = owner.new_batch()
        builder.append(timestamp=None, key=b"k", value=b"v", headers=[])
        batches.append((builder, topic, 0))
    sending = asyncio.create_task(owner.send_batches(batches))

    async def first_is_written() -> bool:
        return await values(kafka, changelog) == [b"v"]

    await until(first_is_written, 8, "the first batch is written")
    assert not sending.done()
    assert waits(owner)
    with pytest.raises(ProducerBroken, match="no-such-topic"):
        await sending
    assert not waits(owner)
    await owner.abandon()


async def test_the_rows_of_an_event_stay_in_one_record_batch(kafka: KafkaCluster, changelog: str) -> None:
    """A record batch is appended whole or not at all, so no reader ever sees half an event."""
    owner = await take(kafka, f"app/{changelog}/0")
    events = [[(b"%d/%d" % (event, row), b"x" * 1_000) for row in range(7)] for event in range(300)]
    end = await owner.append_rows(changelog, 0, events)
    assert end == 2_100
    await owner.abandon()
    async with AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    ) as consumer:
        where = TopicPartition(changelog, 0)
        consumer.assign([where])
        ends = []  # of record batches: where the log may be cut
        while await consumer.position(where) < end:
            fetched = await consumer.getmany(where, timeout_ms=1_000, max_records=None)
            ends += [records[-1].offset + 1 for records in fetched.values()]
    assert len(ends) > 1, "more than one record batch"
    assert all(offset % 7 == 0 for offset in ends)


async def test_the_fence_holds_and_a_killed_leader_is_not_noticed_on_three_brokers(kafka3: KafkaCluster) -> None:
    topic = f"changelog-{uuid.uuid4().hex[:8]}"
    kafka3.create_topics({topic: 1}, {"cleanup.policy": "compact"})
    older = await take(kafka3, f"app/{topic}/0")
    await older.append_rows(topic, 0, [[(b"k", b"0")]])
    owner = await take(kafka3, f"app/{topic}/0")
    leader = kafka3.leader(topic, 0)
    killing = asyncio.create_task(asyncio.to_thread(kafka3.kill_broker, leader))
    for number in range(1, 200):
        assert await owner.append_rows(topic, 0, [[(b"k", b"%d" % number)]]) == number + 1
    await killing
    assert kafka3.leader(topic, 0) != leader
    assert await owner.append_rows(topic, 0, [[(b"k", b"200")]]) == 201
    with pytest.raises(OwnershipLost):
        await older.append_rows(topic, 0, [[(b"k", b"late")]])
    assert await values(kafka3, topic) == [b"%d" % number for number in range(201)]
    await asyncio.gather(older.abandon(), owner.abandon())
    await asyncio.to_thread(kafka3.start_broker, leader)
