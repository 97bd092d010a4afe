"""Records with the time of a clock that is wrong, or from long ago; and a worker whose own clock is wrong."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from pipeline.core.event_time import DAY_MS
from pipeline.producer import ReliableProducer, Undeliverable
from tests.behaviour.commandline import CommandLine
from tests.behaviour.test_clock import faketime
from tests.kafka import pages, requests
from tests.kafka.cluster import KafkaCluster
from tests.kafka.trial import GUARANTEES, Trial
from tests.kafka.waiting import until
from tests.oracle.judge import judge
from tests.oracle.records import COMMENT_COUNTS, NOTIFICATIONS, USER_EVENTS
from tests.oracle.truth import partitions
from tests.producer.scripted import Cluster, ScriptedLink

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]
MINUTE_MS = 60_000
OLD_MS = 40 * DAY_MS
AHEAD_S = 61 * 60


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def event(type_: str, msg_id: str | None = None, **data: Any) -> bytes:
    body = {"msg_id": msg_id or str(uuid.uuid4()), "type": type_, "data": {"user_id": 1, **data}}
    return json.dumps(body).encode()


async def send(bootstrap: str, records: list[tuple[bytes, int, list[tuple[str, bytes]]]]) -> None:
    """(value, time, headers) each, to the user events."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for value, at_ms, headers in records:
            await producer.send_and_wait(USER_EVENTS, value, key=b"1", partition=0, timestamp_ms=at_ms, headers=headers)


async def log_of(bootstrap: str, topic: str) -> list[ConsumerRecord[bytes | None, bytes | None]]:
    """What can be read of a topic of one partition."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed") as consumer:
        (place,) = await partitions(bootstrap, [topic])
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        end, found = (await consumer.end_offsets([place]))[place], []
        while await consumer.position(place) < end:
            found += (await consumer.getmany(timeout_ms=500)).get(place, [])
        return found


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_what_comes_from_a_record_with_a_strange_time_is_taken_and_kept(
    kafka: KafkaCluster, tmp_path: Path, guarantee: str
) -> None:
    """The error topic keeps a month and the broker takes nothing from more than an hour ahead; so do the outputs."""
    async with Trial(kafka, tmp_path, partitions=1, processing_guarantee=guarantee) as trial:
        took = {"message.timestamp.after.max.ms": str(2**62)}
        await requests.configure_topic(kafka.bootstrap, USER_EVENTS, took | {"retention.ms": "-1"})
        await requests.configure_topic(kafka.bootstrap, NOTIFICATIONS, {"message.timestamp.before.max.ms": "600000"})
        await requests.configure_topic(kafka.bootstrap, trial.errors, {"retention.ms": str(31 * DAY_MS)})
        repeated, began = str(uuid.uuid4()), now_ms()
        old, ahead, near = began - OLD_MS, began + 120 * MINUTE_MS, began - 30 * MINUTE_MS
        first = [("hp-event-time", b"%d" % (old - 5))]
        await send(
            kafka.bootstrap,
            [
                (event("comment.created", repeated, msg="x"), old, []),
                (event("comment.created", repeated, msg="y"), old, []),
                (b"no JSON", old, []),
                (b"no JSON", ahead, first),
                (event("comment.created", msg="x"), ahead, []),
                (event("comment.created", msg="x"), near, []),
                (event("comment.created", msg="x"), near, first),
                (event("comment.created", msg="x"), old, first),
                (event("user.followed", followee_id=2), near, []),
            ],
        )
        worker = trial.worker("one")
        await trial.start(worker)
        await trial.caught_up(20)
        ended = now_ms()

        counts = await log_of(kafka.bootstrap, COMMENT_COUNTS)
        said = [(dict(one.headers).get("hp-event-time"), one.timestamp) for one in counts]
        times = [written for _, written in said]
        assert [original for original, _ in said] == [b"%d" % old, b"%d" % ahead, None, first[0][1], first[0][1]]
        assert began - DAY_MS <= times[0] <= ended - DAY_MS
        assert began <= times[1] <= ended
        assert times[2:4] == [near, near], "a time that is fine stays"
        assert began - DAY_MS <= times[4] <= ended - DAY_MS
        (notification,) = await log_of(kafka.bootstrap, NOTIFICATIONS)
        assert began - 5 * MINUTE_MS <= notification.timestamp <= ended, "half of what its topic takes"
        assert dict(notification.headers)["hp-event-time"] == b"%d" % near

        errors = await log_of(kafka.bootstrap, trial.errors)
        audits = await log_of(kafka.bootstrap, f"{trial.app_id}.audit")
        assert (len(errors), len(audits)) == (2, 1)
        assert all(began <= one.timestamp <= ended for one in errors + audits)
        sources = [dict(one.headers)["hp-source-timestamp"] for one in errors + audits]
        assert sources == [b"%d" % old, b"%d" % ahead, b"%d" % old]
        assert dict(errors[1].headers)["hp-event-time"] == first[0][1]
        await trial.stop(worker)
        report = await judge(kafka.bootstrap, trial.app_id)
        assert report.ok, str(report)


async def test_a_worker_with_a_fast_clock_says_so_and_works_once_the_broker_stamps_its_changelog(
    kafka: KafkaCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    async with Trial(kafka, tmp_path, partitions=1, processing_guarantee="exactly_once") as trial:
        with monkeypatch.context() as inherited:  # by the worker; the broker runs already
            inherited.setenv("LD_PRELOAD", faketime())
            inherited.setenv("FAKETIME", f"+{AHEAD_S}s")
            worker = trial.worker("one")
        worker.start()

        async def reason() -> str:
            return str((await pages.ready(worker)).get("reason", ""))

        async def named() -> str | None:
            return said if "INVALID_TIMESTAMP" in (said := await reason()) else None

        said = await until(named, 30, "it is not ready, and says why")
        assert f"{trial.changelog}[0] refuses the time of a record" in said
        clock = re.search(r"clock says (\S+Z)", said)
        assert clock is not None
        ahead_s = time.mktime(time.strptime(clock.group(1), "%Y-%m-%dT%H:%M:%SZ")) - time.timezone - time.time()
        assert abs(ahead_s - AHEAD_S) < 60
        assert "message.timestamp.after.max.ms" in said

        settings = {"app_id": trial.app_id, "partitions": "1", "agents": trial.agent}
        cli = CommandLine(f"kafka://{kafka.bootstrap}", tmp_path, **settings)
        applied = await asyncio.to_thread(cli, "topics", "apply")
        assert applied.code == 0, applied.err
        change = "config message.timestamp.type=CreateTime -> message.timestamp.type=LogAppendTime"
        for topic in (trial.changelog, trial.errors, f"{trial.app_id}.audit"):
            assert f"~ {topic}: {change}" in applied.out
        await asyncio.to_thread(worker.wait_ready, 30)
        began = now_ms()
        await send(kafka.bootstrap, [(event("comment.created", msg="x"), began, []), (b"no JSON", began, [])])
        await trial.caught_up(20)
        (output,) = await log_of(kafka.bootstrap, COMMENT_COUNTS)
        assert output.timestamp == began
        (error,) = await log_of(kafka.bootstrap, trial.errors)
        assert abs(error.timestamp - began) < MINUTE_MS, "the broker's time"

        await requests.configure_topic(kafka.bootstrap, COMMENT_COUNTS, {"message.timestamp.before.max.ms": "10"})
        await send(kafka.bootstrap, [(event("comment.created", msg="x"), began, [])])

        async def blocked() -> list[str]:
            return [one["reason"] for one in (await pages.ready(worker))["blocked"]]

        await until(blocked, 30, "no time is fine for that topic by this clock: it waits, and says so")
        assert await blocked() == ["clock"]
        said = re.findall(r"blocks on clock: .*", worker.log.read_text())[-1]
        assert f"{COMMENT_COUNTS}[0] refuses the time of a record" in said
        assert re.search(r"\+36\d\d s from the broker's", said)
        await requests.configure_topic(kafka.bootstrap, COMMENT_COUNTS, {})
        await trial.caught_up(30)
        assert len(await log_of(kafka.bootstrap, COMMENT_COUNTS)) == 2
        await trial.stop(worker)
        assert re.search(r"clock is \+36\d\d s from the broker's", worker.log.read_text())


async def test_a_message_that_has_waited_for_longer_than_its_topic_takes_goes_out_under_the_time_of_sending(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    kafka.create_topics({"impatient": 1}, {"message.timestamp.before.max.ms": "60000"})
    kafka.create_topics({"past": 1}, {"message.timestamp.after.max.ms": "0", "message.timestamp.before.max.ms": "0"})
    options = {"bootstrap_servers": kafka.bootstrap}
    began = now_ms()
    with pytest.MonkeyPatch.context() as clock:
        clock.setattr("pipeline.producer.producer.time.time_ns", lambda: (began - 10 * MINUTE_MS) * 1_000_000)
        (silent := Cluster({})).go_away()
        earlier = ReliableProducer({}, link=ScriptedLink(silent), spill=tmp_path, durable=True)
        await earlier.start()
        await earlier.produce("impatient", 0, b"1").accepted()
        assert await earlier.stop(0) == 1
    async with ReliableProducer(options, spill=tmp_path, durable=True) as producer:
        await asyncio.wait_for(producer.produce("impatient", 0, b"2"), 30)
        (waited, fresh) = await log_of(kafka.bootstrap, "impatient")
        assert (waited.value, fresh.value) == (b"1", b"2")
        assert waited.timestamp >= began
    async with ReliableProducer(options) as producer:
        with pytest.raises(Undeliverable, match=r"INVALID_TIMESTAMP.*message\.timestamp\.before\.max\.ms") as refused:
            await asyncio.wait_for(producer.produce("past", 0, b"3"), 30)
        assert refused.value.name == "invalid_timestamp"
