"""On a broker: killed while the broker is away and back, nothing accepted is missing, first occurrences in order."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pipeline.broker import EmbeddedBroker
from pipeline.producer import NonExistingTopic, ReliableProducer, Undeliverable
from tests.kafka.waiting import until
from tests.oracle.truth import read

TOPIC, PARTITIONS = "letters", 3


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(data=tmp_path / "broker") as running:
        yield running


async def make_topic(broker: EmbeddedBroker, **config: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1, topic_configs=config)])
    finally:
        await admin.close()


def writer(broker: EmbeddedBroker, directory: Path, first: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.producer.writer", broker.bootstrap, TOPIC, str(directory)]
    with (directory / "log").open("a") as log:
        return subprocess.Popen([*command, str(first), str(count), "0"], stdout=subprocess.PIPE, stderr=log, text=True)


async def test_killed_twice_with_the_broker_away_what_was_accepted_is_in_the_topic_in_order(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    await make_topic(broker)
    (tmp_path / "spill").mkdir()
    journal = tmp_path / "accepted"
    journal.touch()

    def accepted() -> list[int]:
        return [int(line) for line in journal.read_text().split("\n")[:-1]]

    for life in range(2):
        process = writer(broker, tmp_path, life * 100_000, 100_000)
        before = len(accepted())
        await until(lambda n=before: len(accepted()) > n + 300, 60, "it accepts")
        await asyncio.to_thread(broker.kill)
        before = len(accepted())
        await until(lambda n=before: len(accepted()) > n + 3_000, 60, "it accepts without a broker")
        process.kill()
        process.communicate()
        await asyncio.to_thread(broker.start)
    process = writer(broker, tmp_path, 200_000, 500)
    out, _ = await asyncio.wait_for(asyncio.to_thread(process.communicate), 90)
    assert out == "ready\naccepted\ndrained\n", (tmp_path / "log").read_text()[-3000:]
    logs = (await read(broker.bootstrap, [TOPIC]))[TOPIC]
    found: set[int] = set()
    for partition, records in logs.items():
        numbers = list(dict.fromkeys(int(record.value or b"") for record in records))
        assert numbers == sorted(numbers), "first occurrences are in order"
        assert {number % 3 for number in numbers} <= {partition}
        found.update(numbers)
    assert set(accepted()) - found == set()
    assert len(accepted()) > 6_000


async def test_with_all_brokers_away_it_starts_takes_and_delivers_when_they_come(tmp_path: Path) -> None:
    broker = EmbeddedBroker(data=tmp_path / "broker")
    with broker:
        await make_topic(broker)
    (tmp_path / "spill").mkdir()
    options = {"bootstrap_servers": broker.bootstrap}
    async with ReliableProducer(options, spill=tmp_path / "spill", durable=True) as producer:
        by_key = [producer.produce(TOPIC, None, b"%d" % number, key=b"k") for number in range(100)]
        await asyncio.wait_for(asyncio.gather(*(delivery.accepted() for delivery in by_key)), 60)
        assert producer.load().messages == 100
        assert producer.partitions() == {}
        with broker:
            places = await asyncio.wait_for(asyncio.gather(*by_key), 60)
            assert [place.offset for place in places] == list(range(100))
            assert producer.partitions() == {TOPIC: PARTITIONS}
            known = await producer.produce(TOPIC, None, b"100", key=b"k")
            assert known == (TOPIC, places[0].partition, 100)


async def test_a_message_that_is_too_large_is_told_and_its_neighbours_arrive_in_order(broker: EmbeddedBroker) -> None:
    await make_topic(broker, **{"max.message.bytes": "20000"})
    async with ReliableProducer({"bootstrap_servers": broker.bootstrap}) as producer:
        deliveries = [
            producer.produce(TOPIC, 0, b"%04d" % number + b"x" * (50_000 if number == 70 else 100))
            for number in range(300)
        ]
        results = await asyncio.wait_for(asyncio.gather(*deliveries, return_exceptions=True), 60)
        failed = [number for number, result in enumerate(results) if isinstance(result, BaseException)]
        assert failed == [70]
        assert isinstance(results[70], Undeliverable)
        assert results[70].name == "message_too_large"
    records = (await read(broker.bootstrap, [TOPIC]))[TOPIC][0]
    assert [int((record.value or b"")[:4]) for record in records] == [number for number in range(300) if number != 70]


async def test_a_topic_that_does_not_exist_comes_with_the_confirmation(broker: EmbeddedBroker) -> None:
    await make_topic(broker)
    async with ReliableProducer({"bootstrap_servers": broker.bootstrap}, missing_after_s=0.5) as producer:
        with pytest.raises(NonExistingTopic):
            await asyncio.wait_for(producer.produce("nobody", 0, b"x"), 60)
        assert await producer.produce(TOPIC, 0, b"x") == (TOPIC, 0, 0)


async def test_what_was_produced_in_one_linger_is_one_request_a_partition(broker: EmbeddedBroker) -> None:
    await make_topic(broker)
    async with ReliableProducer({"bootstrap_servers": broker.bootstrap}) as producer:
        await producer.request_metadata(TOPIC)
        sends: list[int] = []
        send = producer._link.send

        async def counted(topic: str, partition: int, messages: list[object]) -> object:
            sends.append(len(messages))
            return await send(topic, partition, messages)  # type: ignore[arg-type]

        producer._link.send = counted  # type: ignore[method-assign, assignment]
        deliveries = [producer.produce(TOPIC, number % 3, b"x") for number in range(3_000)]
        await asyncio.gather(*deliveries)
    assert sorted(sends) == [1_000, 1_000, 1_000]


async def test_a_topic_is_consumed_from_an_offset_until_it_is_stopped(broker: EmbeddedBroker) -> None:
    await make_topic(broker)
    async with ReliableProducer({"bootstrap_servers": broker.bootstrap}) as producer:
        await producer.produce(TOPIC, 1, [b"%d" % number + b"x" * 1_000 for number in range(5_000)], key=b"k")
        seen = []
        async for record in producer.consume(TOPIC, 1, start=10):
            seen.append(record)
            if len(seen) == 4_990:
                await producer.stop_consuming(TOPIC, 1)
        assert [record.offset for record in seen] == list(range(10, 5_000))
        assert seen[0].key == b"k"
        with pytest.raises(NonExistingTopic):
            await anext(producer.consume("nobody", 0))
        assert (await anext(producer.consume(TOPIC, 1))).offset == 0
