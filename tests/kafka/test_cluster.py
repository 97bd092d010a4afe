"""The clusters that other tests lean on do what they say: they serve, keep data, fail over, refuse what they must."""

from __future__ import annotations

import uuid

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError

from tests.kafka.cluster import KafkaCluster

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


def _topic() -> str:
    return f"trial-{uuid.uuid4().hex[:8]}"


async def _send(bootstrap: str, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)


async def _read(bootstrap: str, topic: str, count: int) -> list[bytes | None]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        return [(await consumer.getone()).value for _ in range(count)]


async def test_records_survive_a_stop_and_a_kill(kafka: KafkaCluster) -> None:
    topic = _topic()
    kafka.create_topics({topic: 1})
    await _send(kafka.bootstrap, topic, b"1")
    kafka.restart_broker(1)
    await _send(kafka.bootstrap, topic, b"2")
    kafka.restart_broker(1, kill=True)
    await _send(kafka.bootstrap, topic, b"3")
    assert await _read(kafka.bootstrap, topic, 3) == [b"1", b"2", b"3"]


@pytest.mark.versions
async def test_topics_are_not_created_by_use_and_reset_removes_them(kafka: KafkaCluster) -> None:
    topic = _topic()
    kafka.create_topics({topic: 2})
    with pytest.raises(TopicAlreadyExistsError):
        kafka.create_topics({topic: 2})
    kafka.reset()
    kafka.create_topics({topic: 1})
    await _send(kafka.bootstrap, topic, b"first of the new topic")
    assert await _read(kafka.bootstrap, topic, 1) == [b"first of the new topic"]
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, request_timeout_ms=1000) as producer:
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.partitions_for(_topic())


async def test_three_brokers_lose_one_and_go_on(kafka3: KafkaCluster) -> None:
    topic = _topic()
    kafka3.create_topics({topic: 1})
    await _send(kafka3.bootstrap, topic, b"1")
    leader = kafka3.leader(topic, 0)
    kafka3.kill_broker(leader)
    await _send(kafka3.bootstrap, topic, b"2")
    assert kafka3.leader(topic, 0) != leader
    kafka3.start_broker(leader)
    controller = kafka3.controller()
    kafka3.kill_broker(controller)
    await _send(kafka3.bootstrap, topic, b"3")
    assert kafka3.controller() != controller
    kafka3.start_broker(controller)
    assert kafka3.running == [1, 2, 3]
    assert await _read(kafka3.bootstrap, topic, 3) == [b"1", b"2", b"3"]
