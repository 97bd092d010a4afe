"""What the producer takes and refuses: strict, by name, and nothing is buffered when it refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pipeline.producer import (
    BadPartition,
    BufferFull,
    FetchInProgress,
    Limits,
    NonExistingTopic,
    NotAvailable,
    NotConsuming,
    ReliableProducer,
    Stopped,
)
from tests.kafka.waiting import until
from tests.producer.scripted import Cluster, ScriptedLink

REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("bad_topic", {"topic": b"letters"}),
    ("bad_topic", {"topic": None}),
    ("bad_topic", {"topic": ""}),
    ("bad_topic", {"topic": "a" * 250}),
    ("bad_topic", {"topic": "über"}),
    ("bad_topic", {"topic": "a b"}),
    ("bad_topic", {"topic": ".."}),
    ("bad_topic", {"topic": "letters\n"}),
    ("bad_partition", {"partition": True}),
    ("bad_partition", {"partition": False}),
    ("bad_partition", {"partition": "0"}),
    ("bad_partition", {"partition": 0.0}),
    ("bad_partition", {"partition": -1}),
    ("bad_partition", {"partition": 2**31}),
    ("bad_payload", {"payload": "text"}),
    ("bad_payload", {"payload": bytearray(b"x")}),
    ("bad_payload", {"payload": []}),
    ("bad_payload", {"payload": (b"x",)}),
    ("bad_payload", {"payload": [b"x", "y"]}),
    ("bad_payload", {"payload": [b"x", None]}),
    ("bad_payload", {"payload": None}),
    ("bad_payload", {"payload": 1}),
    ("bad_key", {"key": "text"}),
    ("bad_key", {"key": 1}),
    ("bad_headers", {"headers": {"a": b"b"}}),
    ("bad_headers", {"headers": [("a", "b")]}),
    ("bad_headers", {"headers": [(b"a", b"b")]}),
    ("bad_headers", {"headers": [["a", b"b"]]}),
    ("bad_headers", {"headers": [("\ud800", b"b")]}),
    ("bad_headers", {"headers": "ab"}),
]


def producer(cluster: Cluster, **options: Any) -> ReliableProducer:
    return ReliableProducer({}, link=ScriptedLink(cluster), linger_s=0, **options)


@pytest.mark.parametrize(("name", "wrong"), REFUSED)
async def test_a_wrong_argument_is_refused_by_name_and_nothing_is_buffered(name: str, wrong: dict[str, Any]) -> None:
    cluster = Cluster({"letters": 2})
    cluster.go_away(hangs=True)
    async with producer(cluster) as sending:
        sending.produce("letters", 0, b"good")
        before = sending.load()
        given: dict[str, Any] = {"topic": "letters", "partition": 0, "payload": b"x", **wrong}
        with pytest.raises(Exception) as refused:  # noqa: PT011 - its name is what counts
            sending.produce(given.pop("topic"), given.pop("partition"), given.pop("payload"), **given)
        assert getattr(refused.value, "name", type(refused.value)) == name
        assert sending.load() == before
        cluster.come_back()


async def test_a_list_is_as_many_messages_in_order_and_one_delivery() -> None:
    cluster = Cluster({"letters": 2})
    async with producer(cluster) as sending:
        place = await sending.produce("letters", 1, [b"1", b"2", b"3"])
        assert place == ("letters", 1, 2)
        assert cluster.logs["letters", 1] == [b"1", b"2", b"3"]
        assert (await sending.produce("letters", 1, None, key=b"k")).offset == 3, "a tombstone"


async def test_a_topic_of_249_characters_is_fine() -> None:
    cluster = Cluster({"a" * 249: 1})
    async with producer(cluster) as sending:
        assert (await sending.produce("a" * 249, 0, b"x")).offset == 0


async def test_while_nothing_is_known_everything_is_taken_and_a_missing_topic_comes_with_the_confirmation() -> None:
    cluster = Cluster({"letters": 2})
    async with producer(cluster, missing_after_s=0.0) as sending:
        missing = [sending.produce("nobody", None, b"x", key=b"k"), sending.produce("nobody", 3, b"x")]
        beyond = sending.produce("letters", 2, b"x")
        for delivery in missing:
            with pytest.raises(NonExistingTopic) as error:
                await delivery
            assert error.value.name == "non_existing_topic"
        with pytest.raises(BadPartition):
            await beyond
        assert await sending.request_metadata("letters") == 2
        with pytest.raises(BadPartition):
            sending.produce("letters", 2, b"x")  # known by now: refused at once
        assert sending.partitions() == {"letters": 2}
        with pytest.raises(NonExistingTopic):
            await sending.request_metadata("nobody")


async def test_a_topic_that_appears_in_time_gets_what_waited_for_it() -> None:
    cluster = Cluster({})
    async with producer(cluster, missing_after_s=60.0) as sending:
        delivery = sending.produce("late", None, b"x", key=b"k")
        await until(lambda: "late" in cluster.asked, 60, "the cluster was asked")
        cluster.counts["late"] = 1
        assert await delivery == ("late", 0, 0)


async def test_metadata_is_not_available_while_the_broker_is_away() -> None:
    cluster = Cluster({"letters": 2})
    cluster.go_away()
    async with producer(cluster) as sending:
        with pytest.raises(NotAvailable) as error:
            await sending.request_metadata("letters")
        assert error.value.name == "not_available"


async def test_at_the_cap_it_is_refused_and_taken_again_when_there_is_room() -> None:
    cluster = Cluster({"letters": 1})
    cluster.go_away(hangs=True)
    async with producer(cluster, limits=Limits(memory_messages=3)) as sending:
        taken = [sending.produce("letters", 0, b"%d" % number) for number in range(3)]
        with pytest.raises(BufferFull) as error:
            sending.produce("letters", 0, b"3")
        assert error.value.name == "buffer_full"
        with pytest.raises(BufferFull, match="more than memory may hold"):
            sending.produce("letters", 0, [b"x"] * 4)
        cluster.come_back()
        await asyncio.gather(*taken)
        await sending.produce("letters", 0, b"4")
        assert cluster.logs["letters", 0] == [b"0", b"1", b"2", b"4"]


async def test_after_the_stop_nothing_is_taken_and_who_waits_is_told() -> None:
    cluster = Cluster({"letters": 1})
    cluster.go_away(hangs=True)
    sending = producer(cluster)
    await sending.start()
    waiting = sending.produce("letters", 0, b"x")
    assert await sending.stop(timeout_s=0) == 1
    with pytest.raises(Stopped):
        await waiting
    with pytest.raises(Stopped):
        sending.produce("letters", 0, b"x")
    assert await sending.stop() == 0


async def test_one_fetch_a_partition() -> None:
    async with producer(Cluster({"letters": 1})) as sending:
        sending.consume("letters", 0)
        with pytest.raises(FetchInProgress) as error:
            sending.consume("letters", 0)
        assert error.value.name == "fetch_in_progress"
        await sending.stop_consuming("letters", 0)
        with pytest.raises(NotConsuming):
            await sending.stop_consuming("letters", 0)
        sending.consume("letters", 0)
        with pytest.raises(BadPartition):
            sending.consume("letters", True)


async def test_durable_needs_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="spill"):
        producer(Cluster({}), durable=True)
