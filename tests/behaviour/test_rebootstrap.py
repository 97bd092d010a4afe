"""A client finds its cluster at other addresses, whatever the old ones do: closed, silent, or somebody else's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError

from pipeline.broker import EmbeddedBroker
from pipeline.kafka import client as client_module
from pipeline.kafka.memory import ClusterMemory
from tests.kafka.balancer import Balancer, Closed

TOPIC = "moved"
FOUND_WITHIN_S = 30.0


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "REBOOTSTRAP_AFTER_S", 1.0)


async def make_topic(broker: EmbeddedBroker) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    finally:
        await admin.close()


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[tuple[EmbeddedBroker, Balancer, dict[str, Any]]]:
    """A broker, what leads there, and the options of a client."""
    broker = EmbeddedBroker(data=directory / "data")
    await asyncio.to_thread(broker.start)
    try:
        await make_topic(broker)
        async with Balancer(broker.bootstrap) as balancer:
            yield broker, balancer, {"bootstrap_servers": balancer.address, "request_timeout_ms": 5_000}
    finally:
        await asyncio.to_thread(broker.stop)


@asynccontextmanager
async def moved(broker: EmbeddedBroker, directory: Path, balancer: Balancer) -> AsyncIterator[EmbeddedBroker]:
    """The same data at another port, and the balancer leading there."""
    if broker.running:
        await asyncio.to_thread(broker.stop)
    successor = EmbeddedBroker(data=directory / "data")
    await asyncio.to_thread(successor.start)
    assert successor.port != broker.port
    balancer.lead_to(successor.bootstrap)
    try:
        yield successor
    finally:
        await asyncio.to_thread(successor.stop)


async def swallow(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(1 << 16):
        pass


async def test_every_kind_of_client_goes_on(tmp_path: Path) -> None:
    async with scene(tmp_path) as (broker, balancer, options), AsyncExitStack() as successors:
        admin = AIOKafkaAdminClient(**options)
        await admin.start()
        async with (
            AIOKafkaProducer(**options, acks="all", enable_idempotence=True) as producer,
            AIOKafkaConsumer(TOPIC, **options, group_id="readers", auto_offset_reset="earliest") as consumer,
        ):
            await producer.send_and_wait(TOPIC, b"before")
            assert (await consumer.getone()).value == b"before"
            await successors.enter_async_context(moved(broker, tmp_path, balancer))
            sent = asyncio.create_task(producer.send_and_wait(TOPIC, b"after"))
            assert (await asyncio.wait_for(consumer.getone(), FOUND_WITHIN_S)).value == b"after"
            await asyncio.wait_for(sent, FOUND_WITHIN_S)
            async with asyncio.timeout(FOUND_WITHIN_S):
                while not await admin._client.force_metadata_update():
                    pass  # each takes its time; requests of this client are tried again by whoever makes them
            assert TOPIC in await admin.list_topics()
            await admin.close()


async def test_a_node_that_hangs_holds_up_nobody(tmp_path: Path) -> None:
    """Its connections stay open and answer nothing, as when packets get lost: aiokafka would ask it until a timeout."""
    async with scene(tmp_path) as (broker, balancer, options):
        port = broker.port
        async with AIOKafkaProducer(**options | {"request_timeout_ms": 60_000}) as producer:
            await producer.send_and_wait(TOPIC, b"before")
            await asyncio.to_thread(broker.stop)
            silent = await asyncio.start_server(swallow, "127.0.0.1", port)
            async with moved(broker, tmp_path, balancer):
                assert await asyncio.wait_for(producer.send_and_wait(TOPIC, b"after"), FOUND_WITHIN_S)
            silent.close()


async def test_a_dead_address_is_tried_a_few_times_a_second_by_all_clients_of_a_process(tmp_path: Path) -> None:
    async with scene(tmp_path) as (broker, balancer, options):
        shared = options | {"cluster_memory": ClusterMemory()}
        producers = [AIOKafkaProducer(**shared, enable_idempotence=True) for _ in range(10)]
        await asyncio.gather(*(producer.start() for producer in producers))
        await asyncio.gather(*(producer.partitions_for(TOPIC) for producer in producers))  # else `send` gives up
        port = broker.port
        await asyncio.to_thread(broker.stop)
        async with Closed(port) as closed:
            sends = [asyncio.create_task(producer.send_and_wait(TOPIC, b"x")) for producer in producers]
            await asyncio.sleep(2)
            began_s = time.monotonic()
            await asyncio.sleep(2)
            rate = closed.since(began_s) / 2
        async with moved(broker, tmp_path, balancer):
            await asyncio.wait_for(asyncio.gather(*sends), FOUND_WITHIN_S)
            await asyncio.gather(*(producer.stop() for producer in producers))
        assert rate <= 25  # a balancer and a broker, every 0.1 s at the soonest


async def test_without_any_known_node_nothing_runs_hot(tmp_path: Path) -> None:
    async with scene(tmp_path) as (broker, _, options), AIOKafkaProducer(**options) as producer:
        await asyncio.to_thread(broker.stop)
        updates, ends_s = 0, time.monotonic() + 2
        while time.monotonic() < ends_s:
            await producer.client.force_metadata_update()
            updates += 1
        assert updates <= 2 / 0.05


async def test_whatever_a_connection_raises_the_client_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka's SASL raises ValueError on a bad signature, say, and Python UnicodeError on a bad host name."""

    async def refused(*_: Any, **__: Any) -> Any:
        raise ValueError("Invalid server signature")

    async with scene(tmp_path) as (_, _, options), AIOKafkaProducer(**options) as producer:
        await producer.send_and_wait(TOPIC, b"before")
        with monkeypatch.context() as patch:
            patch.setattr(client_module, "create_conn", refused)
            for connection in list(producer.client._conns.values()):
                connection.close()
            sent = asyncio.create_task(producer.send_and_wait(TOPIC, b"after"))
            await asyncio.sleep(2)  # both are asked: known brokers and bootstrap addresses
        assert await asyncio.wait_for(sent, FOUND_WITHIN_S)
        assert await asyncio.wait_for(producer.client.force_metadata_update(), FOUND_WITHIN_S)


async def test_time_in_which_nobody_asks_is_no_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One question fails while the broker restarts; the next one comes long after, and the answer takes its time."""
    ask = AIOKafkaClient._metadata_update

    async def slowly(self: Any, cluster_metadata: Any, topics: Any) -> bool:
        await asyncio.sleep(0.3)
        return bool(await ask(self, cluster_metadata, topics))

    async with scene(tmp_path) as (broker, _, options), AIOKafkaProducer(**options) as producer:
        await asyncio.to_thread(broker.stop)
        async with asyncio.timeout(FOUND_WITHIN_S):
            while await producer.client.force_metadata_update():
                pass
        await asyncio.to_thread(broker.start)
        await asyncio.sleep(1.5)
        monkeypatch.setattr(AIOKafkaClient, "_metadata_update", slowly)
        assert await producer.client.force_metadata_update()
    assert "no known broker answered" not in caplog.text


async def test_giving_up_on_a_connection_says_nothing_about_its_address(tmp_path: Path) -> None:
    async with scene(tmp_path) as (_, _, options):
        closed = asyncio.Event()

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await swallow(reader, writer)
            closed.set()
            writer.close()

        silent = await asyncio.start_server(hang, "127.0.0.1", 0)
        host, port = silent.sockets[0].getsockname()
        memory = ClusterMemory()
        producer = AIOKafkaProducer(**options | {"cluster_memory": memory, "bootstrap_servers": f"{host}:{port}"})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(producer.start(), 0.5)
        await asyncio.wait_for(closed.wait(), 5)
        assert not memory.is_silent((host, port))
        await producer.stop()
        silent.close()


async def test_a_bootstrap_address_that_hangs_is_asked_last_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT_S", 0.5)
    async with scene(tmp_path) as (broker, _, options):
        silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
        host, port = silent.sockets[0].getsockname()
        memory = ClusterMemory()
        shared = options | {"cluster_memory": memory, "bootstrap_servers": f"{host}:{port},{broker.bootstrap}"}
        for _ in range(20):  # in whatever order: one of them meets it first
            producer = AIOKafkaProducer(**shared)
            await asyncio.wait_for(producer.start(), 4)
            await producer.stop()
            if memory.is_silent((host, port)):
                break
        assert memory.is_silent((host, port))
        monkeypatch.setattr(client_module, "CONNECT_TIMEOUT_S", 10.0)
        producer = AIOKafkaProducer(**shared)
        await asyncio.wait_for(producer.start(), 4)
        await producer.stop()
        silent.close()


async def test_clients_that_start_when_the_broker_is_back_all_get_through(tmp_path: Path) -> None:
    """Others have found its address silent a moment ago."""
    async with scene(tmp_path) as (broker, _, options):
        memory = ClusterMemory()
        shared = options | {"cluster_memory": memory, "bootstrap_servers": broker.bootstrap}
        await asyncio.to_thread(broker.stop)
        with pytest.raises(KafkaConnectionError):
            await AIOKafkaProducer(**shared).start()
        await asyncio.to_thread(broker.start)
        memory.silent(("127.0.0.1", broker.port))
        producers = [AIOKafkaProducer(**shared) for _ in range(10)]
        await asyncio.gather(*(producer.start() for producer in producers))
        await asyncio.gather(*(producer.stop() for producer in producers))


async def test_clients_of_a_process_refuse_a_cluster_that_one_of_them_does_not_know(tmp_path: Path) -> None:
    async with scene(tmp_path) as (broker, balancer, options), EmbeddedBroker() as other:
        await make_topic(other)
        memory = ClusterMemory()
        async with AIOKafkaProducer(**options, cluster_memory=memory) as producer:
            await producer.send_and_wait(TOPIC, b"before")
        balancer.lead_to(other.bootstrap)
        for kind in (AIOKafkaProducer, AIOKafkaConsumer, AIOKafkaAdminClient):
            client = kind(**options, cluster_memory=memory)
            with pytest.raises(KafkaConnectionError, match="another Kafka cluster answers"):
                await client.start()
            await (client.close() if kind is AIOKafkaAdminClient else client.stop())
            await asyncio.sleep(0.2)  # the address isn't asked all the time
        assert memory.other is not None
        assert memory.other.address == balancer.address
        balancer.lead_to(broker.bootstrap)
        await asyncio.sleep(0.2)
        async with AIOKafkaProducer(**options, cluster_memory=memory) as producer:
            await producer.send_and_wait(TOPIC, b"after")
        assert memory.other is None


async def test_a_client_without_a_memory_of_its_own_takes_any_cluster(tmp_path: Path) -> None:
    """Two of them in one process may work with two clusters."""
    async with (
        scene(tmp_path / "a") as (_, _, one),
        scene(tmp_path / "b") as (_, _, two),
        AIOKafkaProducer(**one) as first,
        AIOKafkaProducer(**two) as second,
    ):
        await first.send_and_wait(TOPIC, b"x")
        await second.send_and_wait(TOPIC, b"x")
        assert first.client.cluster_memory.cluster_id != second.client.cluster_memory.cluster_id
