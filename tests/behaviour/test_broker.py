"""The embedded broker, observed through real aiokafka clients and signals."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from pipeline.broker import BrokerStartError, EmbeddedBroker, broker_binary
from pipeline.broker.process import EXIT_DATA_LOCKED, EXIT_PORT_TAKEN

TOPIC = "letters"
PARTITION = TopicPartition(TOPIC, 0)
EXIT_TIMEOUT_S = 20


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(data=tmp_path / "data") as running:
        yield running


@asynccontextmanager
async def admin(broker: EmbeddedBroker) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def make_topic(broker: EmbeddedBroker, replication: int = 1) -> None:
    async with admin(broker) as client:
        await client.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=replication)])


async def send(broker: EmbeddedBroker, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all", enable_idempotence=True) as producer:
        for value in values:
            await producer.send_and_wait(TOPIC, value, key=b"k", partition=0, headers=[("h", b"1")])


async def read(broker: EmbeddedBroker, count: int, group: str | None = None) -> list[tuple[int, bytes]]:
    """The next `count` records of the partition, committed in `group`."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    async with consumer:
        consumer.assign([PARTITION])
        got = [await consumer.getone() for _ in range(count)]
        if group:
            await consumer.commit()
    return [(record.offset, record.value) for record in got]


async def test_records_come_back_in_order_with_their_offsets(broker: EmbeddedBroker) -> None:
    await make_topic(broker)
    await send(broker, b"a", b"b", b"c")
    assert await read(broker, 3) == [(0, b"a"), (1, b"b"), (2, b"c")]


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_records_and_committed_offsets_survive_the_end_of_the_broker(broker: EmbeddedBroker, end: str) -> None:
    await make_topic(broker)
    await send(broker, b"a", b"b", b"c")
    assert await read(broker, 2, group="readers") == [(0, b"a"), (1, b"b")]
    address = broker.bootstrap
    if end == "kill":
        broker.kill()
    else:
        broker.stop()
    assert not broker.running
    broker.start()
    assert broker.bootstrap == address
    assert await read(broker, 1, group="readers") == [(2, b"c")]
    await send(broker, b"d")
    assert await read(broker, 4) == [(0, b"a"), (1, b"b"), (2, b"c"), (3, b"d")]


async def cluster_id(broker: EmbeddedBroker) -> str:
    async with admin(broker) as client:
        return str((await client.describe_cluster())["cluster_id"])


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_each_data_directory_is_a_cluster_of_its_own(tmp_path: Path, end: str) -> None:
    ids = []
    for name in ("one", "two"):
        with EmbeddedBroker(data=tmp_path / name) as broker:
            first = await cluster_id(broker)
            getattr(broker, end)()
            broker.start()
            assert await cluster_id(broker) == first
            ids.append(first)
    assert ids[0] != ids[1]
    assert all(re.fullmatch(r"embedded-[A-Za-z0-9_-]{22}", id_) for id_ in ids)


async def test_in_memory_it_is_another_cluster_at_each_start() -> None:
    with EmbeddedBroker() as broker:
        first = await cluster_id(broker)
        broker.stop()
        broker.start()
        assert await cluster_id(broker) != first


async def test_a_broker_without_data_directory_starts_empty_each_time() -> None:
    async with EmbeddedBroker() as broker:
        await make_topic(broker)
        broker.stop()
        broker.start()
        async with admin(broker) as client:
            assert TOPIC not in await client.list_topics()


async def test_topics_are_not_created_by_asking_for_them(broker: EmbeddedBroker) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, request_timeout_ms=1000) as producer:
        with pytest.raises(KafkaError):
            await producer.send_and_wait("never-created", b"a")
    async with admin(broker) as client:
        assert "never-created" not in await client.list_topics()


async def test_three_brokers_form_one_cluster_and_keep_their_ports(tmp_path: Path) -> None:
    with EmbeddedBroker(data=tmp_path / "data", brokers=3) as broker:
        await make_topic(broker, replication=3)
        await send(broker, b"a")
        addresses = broker.bootstrap
        assert len(set(addresses.split(","))) == 3
        broker.kill()
        broker.start()
        assert broker.bootstrap == addresses
        async with admin(broker) as client:
            cluster = await client.describe_cluster()
            assert {f"127.0.0.1:{member['port']}" for member in cluster["brokers"]} == set(addresses.split(","))
        assert await read(broker, 1) == [(0, b"a")]


def test_a_second_broker_on_the_same_data_directory_is_refused(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with pytest.raises(BrokerStartError, match="in use by another broker") as refused:
        EmbeddedBroker(data=tmp_path / "data").start()
    assert refused.value.exit_code == EXIT_DATA_LOCKED
    assert str(tmp_path / "data") in str(refused.value)
    assert broker.running
    broker.kill()
    with EmbeddedBroker(data=tmp_path / "data") as successor:  # the lock goes with the process, even a killed one
        assert successor.running


def test_a_taken_port_is_named_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerStartError, match=f"port {port} is taken.*--port") as refused:
            EmbeddedBroker(port=port).start()
    assert refused.value.exit_code == EXIT_PORT_TAKEN


def test_the_broker_exits_when_its_parent_closes_standard_input() -> None:
    program = [broker_binary(), "-parent-stdin"]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline().startswith("ready kafka://127.0.0.1:")
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(timeout=EXIT_TIMEOUT_S) == 0
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def test_the_broker_does_not_outlive_a_killed_owner() -> None:
    script = (
        "from pipeline.broker import EmbeddedBroker\n"
        "broker = EmbeddedBroker(); broker.start(); print(broker.port, flush=True); import signal; signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        port = int(owner.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=EXIT_TIMEOUT_S) as connection:
            owner.kill()
            # The broker's end closes with its process: by FIN, or by RST when the broker had not accepted it yet.
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=EXIT_TIMEOUT_S)


@contextmanager
def command(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    script = "from pipeline.broker.command import broker; broker()"
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": ""},  # the ready line must come through a pipe at once all the same
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_ready_and_stops_cleanly(how: signal.Signals, tmp_path: Path) -> None:
    with command("--port", "0", "--data", str(tmp_path / "data")) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("ready kafka://127.0.0.1:")
        port = int(line.rsplit(":", 1)[1])
        socket.create_connection(("127.0.0.1", port), timeout=EXIT_TIMEOUT_S).close()
        process.send_signal(how)
        _, errors = process.communicate(timeout=EXIT_TIMEOUT_S)
        assert process.returncode == 0
        assert "Traceback" not in errors
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=EXIT_TIMEOUT_S)


def test_the_command_names_a_taken_port_and_exits_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with command("--port", str(port)) as process:
            _, errors = process.communicate(timeout=EXIT_TIMEOUT_S)
    assert process.returncode == 1
    assert f"port {port} is taken" in errors
    assert "--port" in errors
    assert "Traceback" not in errors


def test_an_installation_without_the_broker_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pipeline.broker.binary.BINARY", tmp_path / "missing")
    with pytest.raises(RuntimeError, match="HARDPARTS_SKIP_BROKER"):
        EmbeddedBroker().start()
