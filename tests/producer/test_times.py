"""What waits for Kafka, by the clock: the times of messages, and for how long a topic has been missing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from pipeline.core.backoff import Backoff
from pipeline.producer import NonExistingTopic, ReliableProducer, Undeliverable, Undelivered
from tests.kafka.waiting import until
from tests.producer.scripted import Cluster, ScriptedLink

SOON = Backoff(0.001, 0.01)
HOUR_MS = 3_600_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def left_behind(spill: Path, values: list[bytes], shift_ms: int) -> None:
    """Messages that a process whose clock is off has taken while no broker answered."""
    (silent := Cluster({})).go_away()
    right = time.time_ns
    with pytest.MonkeyPatch.context() as clock:
        clock.setattr(time, "time_ns", lambda: right() + shift_ms * 1_000_000)
        producer = ReliableProducer({}, link=ScriptedLink(silent), spill=spill, durable=True, backoff=SOON)
        await producer.start()
        for value in values:
            await producer.produce("letters", 0, value).accepted()
        assert await producer.stop(0) == len(values)


async def test_messages_that_have_waited_for_too_long_go_out_in_order_under_the_time_of_sending(
    tmp_path: Path,
) -> None:
    await left_behind(tmp_path, [b"1", b"2", b"3"], -2 * HOUR_MS)
    cluster = Cluster({"letters": 1})
    began = cluster.takes_since_ms = now_ms()
    told: list[Undelivered] = []
    async with ReliableProducer(
        {}, link=ScriptedLink(cluster), spill=tmp_path, durable=True, backoff=SOON, on_undelivered=told.append
    ) as producer:
        await asyncio.wait_for(producer.produce("letters", 0, b"4"), 60)
    assert cluster.logs["letters", 0] == [b"1", b"2", b"3", b"4"]
    assert all(began <= at_ms <= now_ms() for at_ms in cluster.times["letters", 0])
    assert told == []


async def test_messages_that_are_taken_keep_the_time_when_they_came(tmp_path: Path) -> None:
    await left_behind(tmp_path, [b"1"], -2 * HOUR_MS)
    cluster = Cluster({"letters": 1})
    async with ReliableProducer({}, link=ScriptedLink(cluster), spill=tmp_path, durable=True) as producer:
        await asyncio.wait_for(producer.drained(), 60)
    (at_ms,) = cluster.times["letters", 0]
    assert abs(now_ms() - 2 * HOUR_MS - at_ms) < 60_000


@pytest.mark.parametrize("shift_ms", [0, -2 * HOUR_MS])
async def test_what_is_refused_under_the_time_of_sending_is_reported_by_name_and_the_next_topic_goes_on(
    tmp_path: Path, shift_ms: int
) -> None:
    await left_behind(tmp_path, [b"1", b"2"], shift_ms)
    cluster = Cluster({"letters": 1, "others": 1})
    cluster.takes_since_ms = 2**62
    told: list[Undelivered] = []
    async with ReliableProducer(
        {}, link=ScriptedLink(cluster), spill=tmp_path, durable=True, backoff=SOON, on_undelivered=told.append
    ) as producer:
        with pytest.raises(Undeliverable, match="compare this machine's clock with the broker's"):
            await asyncio.wait_for(producer.produce("others", 0, b"x"), 60)
        await until(lambda: len(told) == 3, 60, "all are reported")
        kept = list(producer.undelivered())
        assert {(one.error, one.code) for one in kept} == {("invalid_timestamp", 32)}
        assert {one.value for one in kept} == {b"1", b"2", b"x"}
    assert not cluster.logs["letters", 0]


async def test_only_the_time_counts_in_which_the_cluster_says_that_a_topic_is_missing() -> None:
    cluster = Cluster({})
    missing_after_s = 1.0
    async with ReliableProducer(
        {}, link=ScriptedLink(cluster), linger_s=0, backoff=SOON, missing_after_s=missing_after_s
    ) as producer:
        waiting = producer.produce("late", 0, b"1")
        await until(lambda: "late" in cluster.asked, 60, "it is missing")
        cluster.go_away()
        await asyncio.sleep(2 * missing_after_s)
        asked = len(cluster.asked)
        cluster.come_back()
        await until(lambda: len(cluster.asked) > asked + 1, 60, "it is missing still")
        cluster.counts["late"] = 1
        assert await asyncio.wait_for(waiting, 60) == ("late", 0, 0)
        began = time.monotonic()
        with pytest.raises(NonExistingTopic):
            await asyncio.wait_for(producer.produce("never", 0, b"1"), 60)
        assert time.monotonic() - began >= missing_after_s
