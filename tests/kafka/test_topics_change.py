"""Topics that an administrator changes while workers run: deleted and made again, given more partitions."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewPartitions

from tests.kafka import pages, requests, sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.feed import WITHOUT_END, Feed
from tests.kafka.test_start_refused import refused
from tests.kafka.trial import GUARANTEES, Trial
from tests.kafka.waiting import until
from tests.oracle.generator import Made, Mix
from tests.oracle.judge import judge
from tests.oracle.process import Worker
from tests.oracle.records import COMMENT_COUNTS, USER_EVENTS, partition_of
from tests.oracle.views import unit_directories

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

USERS = 40
NAMED_WITHIN_S = 40.0
"""It looks every 10 s; the rest is for a busy machine."""
READ_WITHIN_S = 60.0


async def comments(kafka: KafkaCluster, partitions: int) -> None:
    """One comment of each user."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all") as producer:
        for user in range(USERS):
            event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": user, "msg": "hello"}}
            key = str(user).encode()
            value = json.dumps(event).encode()
            await producer.send_and_wait(USER_EVENTS, value, key=key, partition=partition_of(key, partitions))


async def counted(kafka: KafkaCluster, partitions: int) -> dict[bytes, int]:
    """user → comments, by the last record of each in the output topic."""
    async with AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    ) as consumer:
        assigned = [TopicPartition(COMMENT_COUNTS, number) for number in range(partitions)]
        consumer.assign(assigned)
        ends, counts = await consumer.end_offsets(assigned), dict[bytes, int]()
        while any([await consumer.position(tp) < ends[tp] for tp in assigned]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                counts |= {record.key: json.loads(record.value)["data"]["count"] for record in records}
        return counts


async def all_have(kafka: KafkaCluster, count: int, timeout_s: float) -> None:
    """Wait until each user has so many comments."""

    async def holds() -> Any:
        counts = await counted(kafka, 4)
        return len(counts) == USERS and set(counts.values()) == {count}

    await until(holds, timeout_s, f"{count} comments of each of {USERS} users")


async def said(worker: Worker, line: str) -> None:
    """Wait until it has written this to its log."""
    await until(lambda: line in worker.log.read_text(), NAMED_WITHIN_S, line)


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_source_that_is_deleted_and_made_again_is_read_within_a_minute(
    kafka: KafkaCluster, tmp_path: Path, guarantee: str
) -> None:
    async with Trial(kafka, tmp_path, processing_guarantee=guarantee) as trial:
        worker = trial.worker("one")
        await trial.start(worker)
        await comments(kafka, 4)
        await all_have(kafka, 1, 60)
        await requests.delete_topic(kafka.bootstrap, USER_EVENTS)
        await said(worker, f"ALERT opened topics/{USER_EVENTS}: ")

        async def named() -> Any:
            return (await pages.ready(worker)).get("topics")

        (problem,) = await until(named, 30, "the page of a worker that goes on with its other source")
        assert (problem["topic"], problem["problem"]) == (USER_EVENTS, "missing")

        trial.create(USER_EVENTS)
        await comments(kafka, 4)
        await all_have(kafka, 2, READ_WITHIN_S)
        await said(worker, f"ALERT closed topics/{USER_EVENTS}")
        await trial.caught_up()

        # at once: nobody has time to see that it is missing
        before = time.monotonic()
        await requests.delete_topic(kafka.bootstrap, USER_EVENTS)
        trial.create(USER_EVENTS)
        for _ in range(3):  # beyond the positions that were committed in the old one
            await comments(kafka, 4)
        await all_have(kafka, 5, READ_WITHIN_S + 30)
        print(f"made again at once: {time.monotonic() - before:.1f} s with all records")
        await trial.caught_up()
        committed = await trial.committed()
        assert sum(offset for (topic, _), offset in committed.items() if topic == USER_EVENTS) >= 3 * USERS
        await trial.stop(worker)


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_workers_go_on_when_a_source_gets_more_partitions(
    kafka: KafkaCluster, tmp_path: Path, guarantee: str
) -> None:
    """Producers go by the new count at once; what they put into the new partition is read by nobody, so it is left out.

    An event and its copy could be in two partitions, and both would count: there are none.
    """
    grown, moved = False, set[bytes]()

    def place(made: Made) -> int | None:
        key = made.key or b""
        before, after = partition_of(key, 4), partition_of(key, 5)
        if made.topic != USER_EVENTS or not grown:
            return before
        if before != after < 4:
            moved.add(key)
        return after if after < 4 else None

    unique = Mix(events=WITHOUT_END, duplicates=0, conflicts=0, corrected=0)
    async with Trial(kafka, tmp_path, processing_guarantee=guarantee) as trial:
        one, two = trial.worker("one"), trial.worker("two")
        await trial.start(one, two)
        await trial.shared(one, two)
        async with Feed(trial, sizes.seed(), rate=300, mix=unique, place=place) as feed:
            await feed.more(300)
            takeovers = [len(trial.takeovers(worker)) for worker in (one, two)]
            async with requests.admin(kafka.bootstrap) as admin:
                await admin.create_partitions({USER_EVENTS: NewPartitions(5)})
            grown = True
            for worker in (one, two):
                await said(worker, f"ALERT opened partitions/{USER_EVENTS}: ")
                (problem,) = (await pages.ready(worker))["topics"]
                assert (problem["topic"], problem["partitions"], problem["in_use"]) == (USER_EVENTS, 5, 4)
                assert "Alert partitions" in problem["remedy"]
            await feed.more(3000)  # longer than two looks
            assert [len(trial.takeovers(worker)) for worker in (one, two)] == takeovers, "they were interrupted"

            two.freeze()
            await trial.shared(one)
            two.thaw()
            await trial.shared(one, two)
            await feed.more(300)
            await trial.stop(two)
            await trial.shared(one)
            await feed.more(300)
            journal = await feed.end()
        await trial.caught_up()
        assert len(moved) > 100, "keys of which records were rejected as strays, or blocked"
        late = await refused(trial.worker("late"))
        assert f"{USER_EVENTS} has 5" in late
        owners = unit_directories(trial.data, "one")
        await trial.stop(one)
        report = await judge(
            kafka.bootstrap, trial.app_id, disks={"owners": owners}, journal=journal, audit=True,
            exactly_once=guarantee == "exactly_once",
        )  # fmt: skip
        print(report)
        # Keys that have moved have outputs of two partitions, which are in no order; that of each partition is judged.
        assert report.counts.keys() <= {"hash chain"}, str(report)
