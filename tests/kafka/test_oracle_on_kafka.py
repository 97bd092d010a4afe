"""The oracle's own way to Kafka and back: what the writer was told is there, and a right run is judged right."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.kafka.cluster import KafkaCluster
from tests.oracle.fold import fold
from tests.oracle.generator import Made, Mix, generate
from tests.oracle.journal import Journal
from tests.oracle.judge import judge
from tests.oracle.lag import StillLagging, wait_for_lag_zero
from tests.oracle.records import COMMENT_COUNTS, OUTPUTS, SOURCES, USER_EVENTS, Log
from tests.oracle.small_engine import AUDIT, CHANGELOG, ERRORS, OUTPUT_PARTITIONS, SmallEngine
from tests.oracle.truth import TopicMissing, read
from tests.oracle.writer import write

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
PARTITIONS = 4
MIX = Mix(events=20_000, users=300, poison=0.02)


def create(cluster: KafkaCluster) -> None:
    cluster.reset()
    cluster.create_topics(dict.fromkeys((*SOURCES, CHANGELOG), PARTITIONS))
    cluster.create_topics(dict.fromkeys((*OUTPUTS, ERRORS, AUDIT), OUTPUT_PARTITIONS))


async def copy(bootstrap: str, logs: dict[str, Log]) -> None:
    """Write logs as they are, partition by partition."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        sent = [
            await producer.send(r.topic, r.value, r.key, partition=r.partition, headers=list(r.headers))
            for log in logs.values()
            for records in log.values()
            for r in records
        ]
        await asyncio.gather(*sent)


async def test_a_right_run_is_judged_right_and_a_lost_output_is_missed(kafka: KafkaCluster, tmp_path: Path) -> None:
    create(kafka)
    journal = await write(kafka.bootstrap, generate(11, MIX), PARTITIONS, seed=11)
    inputs = await read(kafka.bootstrap, SOURCES)
    assert journal.acked == MIX.events == sum(len(records) for log in inputs.values() for records in log.values())
    engine = SmallEngine(PARTITIONS).run(inputs)
    lost = max(engine.logs[COMMENT_COUNTS].values(), key=len).pop()
    await copy(kafka.bootstrap, dict(engine.logs))
    report = await judge(kafka.bootstrap, journal=journal, audit=True)
    assert set(report.counts) == {"missing output", "hash chain"}
    await copy(kafka.bootstrap, {COMMENT_COUNTS: {lost.partition: [lost]}})
    report = await judge(kafka.bootstrap, journal=journal, audit=True)
    assert report.ok, str(report)
    assert report.figures["acknowledged inputs"] == MIX.events


async def test_records_keep_the_order_of_each_key_over_a_broker_restart(kafka3: KafkaCluster) -> None:
    create(kafka3)
    made = list(generate(12, MIX))
    journal = Journal(12)
    writing = asyncio.create_task(write(kafka3.bootstrap, made, PARTITIONS, rate=4_000, journal=journal))
    while not journal.acked and not writing.done():  # noqa: ASYNC110 - a plain counter, watched
        await asyncio.sleep(0.01)
    victim = kafka3.leader(USER_EVENTS, 0)
    await asyncio.to_thread(kafka3.kill_broker, victim)
    assert not writing.done(), "the broker was killed in mid-stream"
    await asyncio.to_thread(kafka3.start_broker, victim)
    await writing
    inputs = await read(kafka3.bootstrap, SOURCES)
    assert journal.missing_from(inputs) == []
    wanted, found = defaultdict(list), defaultdict(list)
    for m in made:
        wanted[m.topic, m.key].append(m.value)
    for topic, log in inputs.items():
        for records in log.values():
            for r in records:
                found[topic, r.key].append(r.value)
    keyed = [key for key in wanted if key[1] is not None]
    assert [key for key in keyed if wanted[key] != found[key]] == []
    assert sum(tally.inputs for tally in fold(inputs).tallies.values()) == MIX.events


async def test_whole_topics_are_read_past_control_records(kafka: KafkaCluster) -> None:
    kafka.reset()
    kafka.create_topics({"ledger": 2})
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id="ledger") as producer:
        async with producer.transaction():
            await producer.send("ledger", b"kept", partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait("ledger", b"aborted", partition=0)
        await producer.abort_transaction()
    assert [r.value for r in (await read(kafka.bootstrap, ["ledger"]))["ledger"][0]] == [b"kept", b"aborted"]
    logs = await read(kafka.bootstrap, ["ledger"], "read_committed")
    assert [r.value for r in logs["ledger"][0]] == [b"kept"]
    assert logs["ledger"][1] == []
    with pytest.raises(TopicMissing):
        await read(kafka.bootstrap, ["no-such-topic"])


async def test_lag_is_zero_only_when_all_is_committed(kafka: KafkaCluster) -> None:
    kafka.reset()
    kafka.create_topics({USER_EVENTS: 2})
    records = [Made(USER_EVENTS, b"%d" % n, b"x", (), "") for n in range(100)]
    await write(kafka.bootstrap, records, 2)
    with pytest.raises(StillLagging, match=r"user-events/0.*\(0, "):
        await wait_for_lag_zero(kafka.bootstrap, "readers", [USER_EVENTS], 1)
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id="readers") as consumer:
        partitions = [TopicPartition(USER_EVENTS, p) for p in range(2)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.commit({partitions[0]: ends[partitions[0]], partitions[1]: ends[partitions[1]] - 1})
        with pytest.raises(StillLagging, match="user-events/1"):
            await wait_for_lag_zero(kafka.bootstrap, "readers", [USER_EVENTS], 1)
        await consumer.commit({partitions[1]: ends[partitions[1]]})
        assert await wait_for_lag_zero(kafka.bootstrap, "readers", [USER_EVENTS], 10) < 10
