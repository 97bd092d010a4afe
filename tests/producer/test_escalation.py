"""A fault of our own in a sender: three restarts in five seconds, then the message it is about is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.core.backoff import Backoff
from pipeline.producer import NotAvailable, ReliableProducer, Undeliverable, Undelivered
from pipeline.producer.link import Sent
from pipeline.producer.message import Message
from pipeline.producer.restarts import RESTARTS_MAX, WITHIN_S, Restarts
from pipeline.producer.spill import Spill
from tests.kafka.waiting import until
from tests.producer.scripted import Cluster, ScriptedLink

SOON = Backoff(0.001, 0.002)


class BrokenLink(ScriptedLink):
    """Raises what no broker says for requests with a message `bug…`; counts how often."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.failed: list[int] = []
        self.mended_after: int | None = None

    async def send(self, topic: str, partition: int, messages: Sequence[Message], at_ms: int | None = None) -> Sent:
        mended = self.mended_after is not None and len(self.failed) >= self.mended_after
        if not mended and any((message.value or b"").startswith(b"bug") for message in messages):
            self.failed.append(len(messages))
            raise RuntimeError("a bug of ours")
        return await super().send(topic, partition, messages)


async def test_a_bug_that_goes_away_within_three_restarts_loses_nothing() -> None:
    cluster = Cluster({"letters": 1})
    link = BrokenLink(cluster)
    link.mended_after = RESTARTS_MAX
    async with ReliableProducer({}, link=link, linger_s=0, backoff=SOON) as producer:
        await asyncio.wait_for(producer.produce("letters", 0, [b"1", b"bug", b"2"]), 60)
    assert cluster.logs["letters", 0] == [b"1", b"bug", b"2"]
    assert link.failed == [3, 3, 3]


async def test_the_fourth_escalates_the_one_message_and_its_neighbours_arrive_in_order(tmp_path: Path) -> None:
    cluster = Cluster({"letters": 1})
    link = BrokenLink(cluster)
    told: list[Undelivered] = []
    async with ReliableProducer(
        {}, link=link, linger_s=0, backoff=SOON, spill=tmp_path, durable=True, on_undelivered=told.append
    ) as producer:
        values = [b"%d" % number for number in range(20)]
        values[13] = b"bug"
        deliveries = [producer.produce("letters", 0, value) for value in values]
        results = await asyncio.wait_for(asyncio.gather(*deliveries, return_exceptions=True), 60)
        assert [number for number, result in enumerate(results) if isinstance(result, BaseException)] == [13]
        assert isinstance(results[13], Undeliverable)
        assert results[13].name == "escalated"
        (kept,) = producer.undelivered()
    assert cluster.logs["letters", 0] == [value for value in values if value != b"bug"]
    assert (kept.value, kept.error, kept.code) == (b"bug", "escalated", None)
    assert "a bug of ours" in kept.reason
    assert kept.attempts > RESTARTS_MAX
    assert told == [kept]
    assert len(link.failed) > RESTARTS_MAX
    assert link.failed[-1] == 1


async def test_nothing_escalates_while_no_broker_answers() -> None:
    cluster = Cluster({"letters": 1})
    link = BrokenLink(cluster)
    async with ReliableProducer({}, link=link, linger_s=0, backoff=SOON) as producer:
        cluster.go_away()
        delivery = producer.produce("letters", 0, b"bug")
        await until(lambda: len(link.failed) > 20, 60, "it goes on trying")
        assert not delivery.done
        cluster.come_back()
        with pytest.raises(Undeliverable, match="a bug of ours"):
            await asyncio.wait_for(delivery, 60)


async def test_only_what_is_our_own_fault_counts() -> None:
    restarts = Restarts()
    for _ in range(3 * RESTARTS_MAX):
        assert restarts.allows(NotAvailable("away"))
        assert restarts.allows(OSError(5, "disk"))
    assert [restarts.allows(RuntimeError()) for _ in range(RESTARTS_MAX + 2)] == [True, True, True, False, False]


async def test_failures_that_are_far_apart_do_not_escalate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    restarts = Restarts()
    answers = []
    for _ in range(4 * RESTARTS_MAX):
        answers.append(restarts.allows(RuntimeError()))
        now += WITHIN_S / (RESTARTS_MAX - 0.5)
    assert all(answers)


async def test_a_fault_of_our_own_while_flushing_is_restarted_without_another_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster({"letters": 1})
    cluster.go_away()
    sync, faults = Spill.sync, iter(range(1))

    def fails_once(spill: Spill) -> None:
        if next(faults, None) is not None:
            raise RuntimeError("a bug of ours")
        sync(spill)

    async with ReliableProducer({}, link=ScriptedLink(cluster), linger_s=0, spill=tmp_path, durable=True) as producer:
        monkeypatch.setattr(Spill, "sync", fails_once)
        await asyncio.wait_for(producer.produce("letters", 0, b"1").accepted(), 60)
        assert next(faults, None) is None
        cluster.come_back()
