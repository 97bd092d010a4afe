"""All brokers come back at other addresses, and only HARDPARTS_BROKER leads there; or it leads to another cluster."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.producer import NotAvailable, ReliableProducer
from tests.behaviour.commandline import CommandLine
from tests.gateway.gateways import TOPIC
from tests.gateway.writers import Writers, accepted_in_order, arrived, empty, log_of, missing, running
from tests.kafka import sizes
from tests.kafka.balancer import Balancer, Closed
from tests.kafka.cluster import KafkaCluster
from tests.kafka.feed import Feed
from tests.kafka.requests import admin
from tests.kafka.trial import GUARANTEES, Trial
from tests.kafka.waiting import until
from tests.oracle.generator import Mix, generate
from tests.oracle.truth import read
from tests.outbox.databases import SqliteDatabase, count, insert
from tests.outbox.trial import RelayProcess

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
FOUND_WITHIN_S = 60.0
"""Generous: five seconds until the bootstrap addresses are asked, and what a takeover takes then, on a busy machine."""
KNOCKS_A_SECOND_MAX = 13.0
"""Of a whole process, however many clients it has."""
WATCHED_S = 6.0


@pytest.fixture(scope="module")
def other(kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Another cluster."""
    with KafkaCluster(1, tmp_path_factory.mktemp("other")) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _running_again(kafka: KafkaCluster) -> Iterator[None]:
    """A test that fails in between leaves a broker to the next one."""
    yield
    for node_id in set(kafka.nodes) - set(kafka.running):
        kafka.start_broker(node_id)


async def moved(cluster: KafkaCluster, balancer: Balancer) -> list[int]:
    """The cluster at other ports, with the balancer leading there; the old ports."""
    old = [node.port for node in cluster.nodes.values()]
    await asyncio.to_thread(cluster.move)
    balancer.lead_to(cluster.nodes[1].address)
    return old


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_workers_find_their_cluster_at_other_addresses(
    kafka: KafkaCluster, tmp_path: Path, guarantee: str
) -> None:
    async with (
        Balancer(kafka.bootstrap) as balancer,
        Trial(kafka, tmp_path, broker=balancer.address, processing_guarantee=guarantee, standby_replicas="1") as trial,
    ):
        one, two = trial.worker("one"), trial.worker("two")
        await trial.start(one, two)
        await trial.shared(one, two)
        pids = one.process.pid, two.process.pid
        async with Feed(trial, sizes.seed(), rate=500) as feed:
            await feed.more(1_000)
            journal = await feed.end()
        await moved(kafka, balancer)
        began_s = time.monotonic()
        await trial.write(generate(sizes.seed() + 1, Mix(events=30)), journal)
        await trial.caught_up(FOUND_WITHIN_S)
        print(f"applied {time.monotonic() - began_s:.1f} s after the brokers served at other addresses")
        await trial.write(generate(sizes.seed() + 2, Mix(events=500)), journal)
        two.kill()  # and whoever takes over now, or starts, finds them too
        await trial.shared(one)
        await trial.start(two)
        await trial.shared(one, two)
        assert one.process.pid == pids[0]
        await trial.verdict(journal)


async def test_three_brokers_move_under_load(kafka3: KafkaCluster, tmp_path: Path) -> None:
    async with Balancer(kafka3.nodes[1].address) as balancer, Trial(kafka3, tmp_path, broker=balancer.address) as trial:
        one = trial.worker("one")
        await trial.start(one)
        await trial.shared(one)
        journal = await trial.write(generate(sizes.seed(), Mix(events=4_000)))
        await moved(kafka3, balancer)
        await trial.write(generate(sizes.seed() + 1, Mix(events=1_000)), journal)
        await trial.caught_up(FOUND_WITHIN_S)
        await trial.verdict(journal)


async def test_a_dead_address_is_knocked_at_a_few_times_a_second(kafka: KafkaCluster, tmp_path: Path) -> None:
    async with (
        Balancer(kafka.bootstrap) as balancer,
        Trial(kafka, tmp_path, partitions=12, broker=balancer.address) as trial,
    ):
        worker = trial.worker("one")
        await trial.start(worker)
        await trial.shared(worker)
        journal = await trial.write(generate(sizes.seed(), Mix(events=500)))
        await trial.caught_up()
        old = kafka.nodes[1].port
        await asyncio.to_thread(kafka.kill_broker, 1)
        balancer.lead_to("127.0.0.1:9")  # nobody listens
        async with Closed(old) as closed:
            await asyncio.sleep(2 * WATCHED_S)
            rate = closed.since(time.monotonic() - WATCHED_S) / WATCHED_S
        print(f"{rate:.1f} knocks a second")
        await moved(kafka, balancer)
        await trial.write(generate(sizes.seed() + 1, Mix(events=100)), journal)
        await trial.caught_up(FOUND_WITHIN_S)
        await trial.verdict(journal)
        assert rate <= KNOCKS_A_SECOND_MAX


async def test_a_gateway_finds_its_cluster_at_other_addresses(kafka: KafkaCluster, tmp_path: Path) -> None:
    await asyncio.to_thread(kafka.reset)
    await asyncio.to_thread(kafka.create_topics, {TOPIC: 3})
    async with Balancer(kafka.bootstrap) as balancer:
        cli = CommandLine(f"kafka://{balancer.address}", tmp_path, gateway_port="0")
        async with running(cli) as (_, ask):
            writers = Writers()
            writing = asyncio.create_task(writers.write(ask))
            await until(lambda: writers.count >= 100, 60, "events are accepted")
            await moved(kafka, balancer)
            so_far = writers.count
            await until(lambda: writers.count >= so_far + 100, 60, "events are accepted")
            writers.stopped = True
            await writing
            await until(lambda: empty(ask), FOUND_WITHIN_S, "custody is empty")
    found = await arrived(kafka.bootstrap)
    assert missing(writers, found) == set()
    assert accepted_in_order(writers, found)


async def test_an_outbox_finds_its_cluster_at_other_addresses(kafka: KafkaCluster, tmp_path: Path) -> None:
    topic = f"orders-{uuid.uuid4().hex[:8]}"
    await asyncio.to_thread(kafka.create_topics, {topic: 1})
    database = SqliteDatabase(tmp_path)
    async with Balancer(kafka.bootstrap) as balancer:
        relay = RelayProcess(database, balancer.address, tmp_path)
        try:
            insert(database, *[(topic, "a", f"before {number}") for number in range(5)])
            await until(lambda: count(database, "sent IS NULL") == 0, 60, "rows are sent")
            await moved(kafka, balancer)
            insert(database, *[(topic, "a", f"after {number}") for number in range(5)])
            await until(lambda: count(database, "sent IS NULL") == 0, FOUND_WITHIN_S, "rows are sent")
            assert relay.stop() == 0, relay.said()
        finally:
            relay.kill()
    values = [record.value for record in (await read(kafka.bootstrap, [topic]))[topic][0]]
    assert list(dict.fromkeys(values)) == [b"%s %d" % (when, n) for when in (b"before", b"after") for n in range(5)]


async def test_a_producer_and_who_reads_back_find_their_cluster_at_other_addresses(kafka: KafkaCluster) -> None:
    topic = f"moved-{uuid.uuid4().hex[:8]}"
    await asyncio.to_thread(kafka.create_topics, {topic: 1})
    async with (
        Balancer(kafka.bootstrap) as balancer,
        ReliableProducer({"bootstrap_servers": balancer.address}) as producer,
    ):
        reading = producer.consume(topic, 0)
        await producer.produce(topic, 0, b"before")
        assert (await anext(reading)).value == b"before"
        await moved(kafka, balancer)
        delivery, record = producer.produce(topic, 0, b"after"), anext(reading)
        assert await asyncio.wait_for(delivery, FOUND_WITHIN_S)
        assert (await asyncio.wait_for(record, FOUND_WITHIN_S)).value == b"after"


# ---------------------------------------------------------------------- another cluster


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_worker_ends_by_name_when_another_cluster_answers(
    kafka: KafkaCluster, other: KafkaCluster, tmp_path: Path, guarantee: str
) -> None:
    await asyncio.to_thread(other.reset)
    async with (
        Balancer(kafka.bootstrap) as balancer,
        Trial(kafka, tmp_path, broker=balancer.address, processing_guarantee=guarantee) as trial,
    ):
        worker = trial.worker("one")
        await trial.start(worker)
        await trial.shared(worker)
        journal = await trial.write(generate(sizes.seed(), Mix(events=500)))
        await trial.caught_up()
        topics = await read_topics(kafka)
        await asyncio.to_thread(other.create_topics, dict.fromkeys(topics, trial.partitions))
        await asyncio.to_thread(kafka.kill_broker, 1)
        balancer.lead_to(other.bootstrap)
        code = await asyncio.wait_for(asyncio.to_thread(worker.process.wait), FOUND_WITHIN_S)
        said = worker.end_of_log()
        assert code == 1, said
        [line] = [line for line in said.splitlines() if "stopped: OtherCluster" in line]
        assert f"another Kafka cluster answers at {balancer.address}: its id is {other.cluster_id}" in line
        assert f"this process works with {kafka.cluster_id}" in line
        assert "HARDPARTS_BROKER" in line
        assert await records_in(other, topics) == 0
        await asyncio.to_thread(kafka.start_broker, 1)
        balancer.lead_to(kafka.bootstrap)
        await trial.start(worker)
        await trial.verdict(journal)


async def test_a_broker_of_another_cluster_at_an_old_address_is_sent_nothing(
    kafka: KafkaCluster, other: KafkaCluster
) -> None:
    """As when an address is given to somebody else: node id, topic and partition are the same there."""
    topic = f"theirs-{uuid.uuid4().hex[:8]}"
    for cluster in (kafka, other):
        await asyncio.to_thread(cluster.create_topics, {topic: 1})
    old = kafka.nodes[1].port
    async with (
        Balancer(kafka.bootstrap) as balancer,
        ReliableProducer({"bootstrap_servers": balancer.address}) as producer,
    ):
        await producer.produce(topic, 0, b"before")
        await asyncio.to_thread(kafka.kill_broker, 1)
        forwarding = await asyncio.start_server(Balancer(other.bootstrap)._forward, "127.0.0.1", old)
        delivery = producer.produce(topic, 0, b"after")
        await asyncio.sleep(WATCHED_S)
        assert not delivery.done
        await moved(kafka, balancer)
        await asyncio.wait_for(delivery, FOUND_WITHIN_S)
        forwarding.close()
        assert producer.other_cluster() is None
    assert await records_in(other, [topic]) == 0
    assert await records_in(kafka, [topic]) == 2


async def test_a_gateway_keeps_what_it_accepted_from_another_cluster_and_says_so(
    kafka: KafkaCluster, other: KafkaCluster, tmp_path: Path
) -> None:
    for cluster in (kafka, other):
        await asyncio.to_thread(cluster.reset)
        await asyncio.to_thread(cluster.create_topics, {TOPIC: 3})
    async with Balancer(kafka.bootstrap) as balancer:
        cli = CommandLine(f"kafka://{balancer.address}", tmp_path, gateway_port="0")
        async with running(cli) as (_, ask):
            writers = Writers()
            writing = asyncio.create_task(writers.write(ask))
            await until(lambda: writers.count >= 100, 60, "events are accepted")
            await asyncio.to_thread(kafka.kill_broker, 1)
            balancer.lead_to(other.bootstrap)

            async def told() -> bool:
                return "another Kafka cluster" in (await ask("GET", "/health/ready")).body.get("kafka", "")

            await until(told, FOUND_WITHIN_S, "it says that another cluster answers")
            assert (await ask("GET", "/health/ready")).status == 200
            so_far = writers.count
            await until(lambda: writers.count >= so_far + 100, 60, "it answers for what comes")
            writers.stopped = True
            await writing
            await until(lambda: "ALERT opened cluster" in log_of(cli).read_text(), 10, "the alert opens")
            await asyncio.to_thread(kafka.start_broker, 1)
            balancer.lead_to(kafka.bootstrap)
            await until(lambda: empty(ask), FOUND_WITHIN_S, "custody is empty")
            assert "kafka" not in (await ask("GET", "/health/ready")).body
            assert (await ask("GET", "/undelivered")).body == {"undelivered": []}
            await until(lambda: "ALERT closed cluster" in log_of(cli).read_text(), 10, "the alert closes")
    assert await records_in(other, [TOPIC]) == 0
    assert missing(writers, await arrived(kafka.bootstrap)) == set()


async def test_an_outbox_keeps_rows_from_another_cluster(
    kafka: KafkaCluster, other: KafkaCluster, tmp_path: Path
) -> None:
    topic = f"orders-{uuid.uuid4().hex[:8]}"
    for cluster in (kafka, other):
        await asyncio.to_thread(cluster.create_topics, {topic: 1})
    database = SqliteDatabase(tmp_path)
    async with Balancer(kafka.bootstrap) as balancer:
        relay = RelayProcess(database, balancer.address, tmp_path)
        try:
            insert(database, (topic, "a", "before"))
            await until(lambda: count(database, "sent IS NULL") == 0, 60, "the row is sent")
            await asyncio.to_thread(kafka.kill_broker, 1)
            balancer.lead_to(other.bootstrap)
            insert(database, (topic, "a", "after"))
            await until(lambda: "ALERT opened cluster" in relay.said(), FOUND_WITHIN_S, "it says so")
            assert count(database, "sent IS NULL AND failed IS NULL") == 1
            await asyncio.to_thread(kafka.start_broker, 1)
            balancer.lead_to(kafka.bootstrap)
            await until(lambda: count(database, "sent IS NULL") == 0, FOUND_WITHIN_S, "the row is sent")
            assert relay.stop() == 0, relay.said()
        finally:
            relay.kill()
    assert await records_in(other, [topic]) == 0
    assert await records_in(kafka, [topic]) == 2


async def test_a_producer_made_anew_after_an_error_refuses_another_cluster_too(
    kafka: KafkaCluster, other: KafkaCluster
) -> None:
    topic = f"anew-{uuid.uuid4().hex[:8]}"
    for cluster in (kafka, other):
        await asyncio.to_thread(cluster.create_topics, {topic: 1})
    async with (
        Balancer(kafka.bootstrap) as balancer,
        ReliableProducer({"bootstrap_servers": balancer.address}) as producer,
    ):
        await producer.produce(topic, 0, b"before")
        balancer.lead_to(other.bootstrap)
        line = await producer._link._connected()
        producer._link._retire(line)
        await producer._link._drop(line)
        delivery = producer.produce(topic, 0, b"after")
        with pytest.raises(NotAvailable, match="another Kafka cluster answers"):
            await producer.request_metadata(topic)
        balancer.lead_to(kafka.bootstrap)
        await asyncio.wait_for(delivery, FOUND_WITHIN_S)
    assert await records_in(other, [topic]) == 0
    assert await records_in(kafka, [topic]) == 2


async def read_topics(cluster: KafkaCluster) -> list[str]:
    """Names of the topics that are not Kafka's own."""
    async with admin(cluster.bootstrap) as client:
        return [name for name in await client.list_topics() if not name.startswith("__")]


async def records_in(cluster: KafkaCluster, topics: list[str]) -> int:
    """How many records these have."""
    return sum(len(records) for logs in (await read(cluster.bootstrap, topics)).values() for records in logs.values())
