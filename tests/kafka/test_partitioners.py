"""Clients of other languages hash keys otherwise: nothing is counted apart in silence, and no healthy topic is lost."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

import pytest
from confluent_kafka import Producer

from tests.kafka import pages
from tests.kafka.cluster import KafkaCluster
from tests.kafka.test_start_refused import refused
from tests.kafka.trial import Trial
from tests.kafka.waiting import until
from tests.kafka.webhook import Webhook
from tests.oracle.records import COMMENT_COUNTS, USER_EVENTS, Record, partition_of
from tests.oracle.truth import read

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
PARTITIONS, BOUND = 4, 20
APP = {"agent": "counting", "app": "tests.kafka.apps.other_partitioner:app"}
LINE = 'Topic("user-events", …, partitioner="crc32")'
JAVA = "murmur2_random"
"""Java's choice, as librdkafka calls it."""


def by_crc32(user: int) -> int:
    return crc32(b"%d" % user) % PARTITIONS


def by_murmur2(user: int) -> int:
    return partition_of(b"%d" % user, PARTITIONS)


def librdkafka(kafka: KafkaCluster, users: Iterable[int], **settings: str) -> None:
    """One comment of each: by its default partitioner, unless a setting names another."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, **settings})
    for user in users:
        event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": user, "msg": "x"}}
        producer.produce(USER_EVENTS, json.dumps(event).encode(), key=b"%d" % user)
    assert producer.flush(30) == 0


async def counted(trial: Trial) -> dict[int, list[int]]:
    """user → counts as they came."""
    found = defaultdict(list)
    for records in (await read(trial.cluster.bootstrap, [COMMENT_COUNTS]))[COMMENT_COUNTS].values():
        for record in records:
            found[int(record.key or b"")].append(json.loads(record.value or b"")["data"]["count"])
    return dict(found)


async def errors(trial: Trial) -> list[Record]:
    logs = (await read(trial.cluster.bootstrap, [trial.errors]))[trial.errors].values()
    return [record for records in logs for record in records]


async def test_a_healthy_topic_of_another_client_loses_nothing_and_the_worker_says_what_to_declare(
    kafka: KafkaCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Trial(kafka, tmp_path, partitions=PARTITIONS, **APP) as trial:
        await asyncio.to_thread(librdkafka, kafka, range(200))
        said = await refused(trial.worker("wrong"))
        assert LINE in said
        monkeypatch.setenv("TEST_PARTITIONER", "crc32")
        worker = trial.worker("right")
        await trial.start(worker)
        await trial.caught_up()
        assert await counted(trial) == {user: [1] for user in range(200)}
        assert await errors(trial) == []
        await trial.stop(worker)


async def test_two_clients_are_never_counted_apart_in_silence_and_a_topic_that_turns_blocks(
    kafka: KafkaCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = next(user for user in range(100) if by_crc32(user) != by_murmur2(user))
    later = range(1000, 1400)
    with Webhook() as webhook:
        async with Trial(kafka, tmp_path, partitions=PARTITIONS, alert_webhook=webhook.url, **APP) as trial:
            worker = trial.worker("one")
            await trial.start(worker)
            for _ in range(5):
                await asyncio.to_thread(librdkafka, kafka, [user], partitioner=JAVA)
                await asyncio.to_thread(librdkafka, kafka, [user])
            await trial.caught_up()
            assert await counted(trial) == {user: [1, 2, 3, 4, 5]}
            strays = await errors(trial)
            said = {dict(stray.headers)["hp-error-message"] for stray in strays}
            assert (len(strays), len(said)) == (5, 1)
            assert {dict(stray.headers)["hp-error-class"] for stray in strays} == {b"WrongPartition"}
            assert said.pop().endswith(b"; crc32 puts it here")

            await asyncio.to_thread(librdkafka, kafka, later)

            async def blocked() -> bool:
                heads = (await pages.ready(worker)).get("blocked", [])
                return {(head["partition"], head["reason"]) for head in heads} == {
                    (number, "partitioner") for number in range(PARTITIONS)
                }

            await until(blocked, 30, "each partition blocks")
            await until(lambda: len(webhook.received) >= PARTITIONS, 10, "its alert")
            advice = "set the producers' partitioner to murmur2, see docs/runbook.md"
            assert all(advice in body["message"] for body in webhook.received)
            assert not any(LINE in body["message"] for body in webhook.received), "it has state"
            await trial.stop(worker)
            strays = (await errors(trial))[5:]
            assert len(strays) <= PARTITIONS * BOUND

            monkeypatch.setenv("TEST_PARTITIONER", "crc32")
            worker = trial.worker("one")
            await trial.start(worker)
            await trial.caught_up()
            await trial.stop(worker)
            applied = await counted(trial)
            rejected = {int(stray.key or b"") for stray in await errors(trial)} - {user}
            assert applied.pop(user) == [1, 2, 3, 4, 5]
            assert all(counts == [1] for counts in applied.values())
            assert applied.keys() | rejected == set(later), "nothing is lost"
            assert not applied.keys() & rejected
            assert len(rejected) == len(strays), "none went to the error topic after that"
