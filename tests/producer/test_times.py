"""What waits for Kafka, by the clock: the times of messages, and for how long a topic has been missing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from pipeline.core.backoff import Backoff
from pipeline.producer import NonExistingTopic, ReliableProducer, Undeliverable, Undelivered
from pipeline.producer.sending import ANSWERS_APART_MAX_S, Search
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
        {}, link=ScriptedLink(cluster), spill=tmp_path, backoff=SOON, on_undelivered=told.append
    ) as producer:
        with pytest.raises(Undeliverable, match="compare this machine's clock with the broker's"):
            await asyncio.wait_for(producer.produce("others", 0, b"x"), 60)
        await until(lambda: len(told) == 3, 60, "all are reported")
        kept = list(producer.undelivered())
        assert {(one.error, one.code) for one in kept} == {("invalid_timestamp", 32)}
        assert {one.value for one in kept} == {b"1", b"2", b"x"}
    assert not cluster.logs["letters", 0]


@pytest.mark.parametrize("shift_ms", [0, -2 * HOUR_MS])
async def test_what_was_accepted_durably_waits_in_order_until_the_clock_is_right(
    tmp_path: Path, shift_ms: int, caplog: pytest.LogCaptureFixture
) -> None:
    await left_behind(tmp_path, [b"1", b"2"], shift_ms)
    cluster = Cluster({"letters": 1})
    cluster.takes_since_ms = 2**62
    told: list[Undelivered] = []
    async with ReliableProducer(
        {}, link=ScriptedLink(cluster), spill=tmp_path, durable=True, backoff=SOON, on_undelivered=told.append
    ) as producer:
        await producer.produce("letters", 0, b"3").accepted()
        await producer.produce("letters", None, b"by key", key=b"7").accepted()
        await until(lambda: len(cluster.requests) > 20, 60, "it is tried again and again")
        assert producer.load().messages == 4
        lines = [line for line in caplog.messages if "compare this machine's clock" in line]
        (line,) = [line for line in lines if "letters[0]" in line]
        assert "INVALID_TIMESTAMP" in line
        assert "message.timestamp.after.max.ms" in line
        assert time.strftime("It is %Y-%m-%d", time.gmtime()) in line
        began = cluster.takes_since_ms = now_ms()
        await asyncio.wait_for(producer.drained(), 60)
    assert [value for value in cluster.logs["letters", 0] if value != b"by key"] == [b"1", b"2", b"3"]
    assert b"by key" in cluster.logs["letters", 0]
    assert min(cluster.times["letters", 0]) >= began
    assert told == []


async def test_once_what_was_too_old_is_through_messages_keep_the_time_when_they_came_again(tmp_path: Path) -> None:
    await left_behind(tmp_path, [b"1", b"2"], -2 * HOUR_MS)
    cluster = Cluster({"letters": 1})
    cluster.takes_since_ms = now_ms() - HOUR_MS
    async with ReliableProducer({}, link=ScriptedLink(cluster), spill=tmp_path, durable=True, backoff=SOON) as producer:
        await asyncio.wait_for(producer.drained(), 60)
        cluster.go_away()
        delivery = producer.produce("letters", 0, b"3")
        taken = now_ms()
        await until(lambda: now_ms() > taken + 50, 60, "time goes by")
        cluster.come_back()
        await asyncio.wait_for(delivery, 60)
    *_, at_ms = cluster.times["letters", 0]
    assert at_ms <= taken


def test_only_the_time_counts_in_which_the_cluster_says_that_a_topic_is_missing() -> None:
    search = Search()
    assert [search.missing(at_s) for at_s in (1_000.0, 1_004.0, 1_009.0)] == [0, 4, 9]
    assert search.missing(2_000.0) == 9 + ANSWERS_APART_MAX_S, "nobody may have answered in between"
    search.missing_at = None  # as after an error of another kind
    assert [search.missing(at_s) for at_s in (3_000.0, 3_001.0)] == [14, 15]
    search.sent(1)
    assert search.missing(3_002.0) == 0


async def test_a_topic_that_is_missing_is_waited_for_through_an_outage_and_given_up_after_a_while() -> None:
    cluster = Cluster({})
    async with ReliableProducer({}, link=ScriptedLink(cluster), linger_s=0, backoff=SOON) as producer:
        waiting = producer.produce("late", 0, b"1")
        await until(lambda: "late" in cluster.asked, 60, "it is missing")
        cluster.go_away()
        cluster.come_back()
        asked = len(cluster.asked)
        await until(lambda: len(cluster.asked) > asked, 60, "it is missing still")
        cluster.counts["late"] = 1
        assert await asyncio.wait_for(waiting, 60) == ("late", 0, 0)
    missing_after_s = 0.3
    async with ReliableProducer(
        {}, link=ScriptedLink(cluster), linger_s=0, backoff=SOON, missing_after_s=missing_after_s
    ) as producer:
        began = time.monotonic()
        with pytest.raises(NonExistingTopic):
            await asyncio.wait_for(producer.produce("never", 0, b"1"), 60)
        assert time.monotonic() - began >= missing_after_s
