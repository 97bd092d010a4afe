"""Rows and topics that Kafka refuses: a row is set aside and told, a topic waits in order, others go on."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.outbox import Table
from pipeline.outbox.connect import Source
from pipeline.outbox.window import Bounds
from pipeline.producer import BufferFull, Delivery, ReliableProducer
from pipeline.producer.arguments import Payload
from tests.kafka.waiting import until
from tests.outbox.databases import TABLE, Database, SqliteDatabase, ask, count, insert
from tests.outbox.running import StrictCluster, opened, running, values

WITHIN_S = 60


def failures(database: Database) -> dict[str, str]:
    return dict(ask(database, f"SELECT value, failure FROM {TABLE} WHERE failed IS NOT NULL"))


async def test_a_row_that_kafka_refuses_is_set_aside_and_its_key_goes_on(
    database: Database, cluster: StrictCluster
) -> None:
    insert(database, ("orders", "a", "1"), ("orders", "a", "poison"), ("orders", "a", "2"), ("bad topic", "a", "3"))
    connection = database.connect()
    for headers in ("[1]", "{", '{"a": 1}'):
        connection.execute(f"INSERT INTO {TABLE} (topic, value, headers) VALUES ('orders', '{headers}', '{headers}')")
    connection.execute(f"INSERT INTO {TABLE} (topic) VALUES ('orders')")
    async with running(database, cluster) as relay:
        await until(lambda: count(database, "sent IS NULL AND failed IS NULL") == 0, WITHIN_S, "all are settled")
        await until(lambda: opened(relay) == {"outbox:failed"}, WITHIN_S, "it is told")
        assert values(cluster, "orders") == [b"1", b"2"]
        assert list(relay._window._queues) == ["orders"], "a name that was no topic's takes no memory"
        found = failures(database)
        assert found["poison"].startswith("message_too_large: ")
        assert found["3"].startswith("bad_topic: ")
        assert found["[1]"] == found['{"a": 1}'] == "RowBroken: headers are a JSON object of texts"
        assert found["{"].startswith("RowBroken: headers aren't JSON")
        assert found[None].startswith("bad_payload: ")  # type: ignore[index]
        assert count(database, "failed IS NOT NULL AND attempts = 1") == 6

        connection.execute(f"UPDATE {TABLE} SET value = 'cured' WHERE value = 'poison'")
        connection.execute(f"DELETE FROM {TABLE} WHERE value IS NULL OR value <> 'cured'")
        table = Table(Source(database.url, TABLE))
        assert await table.retry(topic="orders") == 1
        await until(lambda: count(database, "sent IS NOT NULL") == 1, WITHIN_S, "it is sent at last")
        await until(lambda: not opened(relay), 2 * WITHIN_S, "the alert closes")
        table.close()
    assert values(cluster, "orders") == [b"1", b"2", b"cured"]


async def test_rows_wait_in_order_while_their_topic_takes_no_time_that_this_machine_knows(
    sqlite: SqliteDatabase, cluster: StrictCluster
) -> None:
    cluster.takes_since_ms = 2**62
    insert(sqlite, *(("orders", "a", f"{n}") for n in range(3)))
    async with running(sqlite, cluster) as relay:
        await until(lambda: "orders" in relay.held(), WITHIN_S, "the topic waits")
        assert relay.held()["orders"].startswith("invalid_timestamp: ")
        assert opened(relay) == {"outbox:topic:orders"}
        assert count(sqlite, "failed IS NOT NULL") == 0
        cluster.takes_since_ms = None
        await until(lambda: count(sqlite, "sent IS NOT NULL") == 3, WITHIN_S, "they are sent")
    assert values(cluster, "orders") == [b"0", b"1", b"2"]


async def test_text_that_is_not_utf_8_is_its_rows_fault_only(sqlite: SqliteDatabase, cluster: StrictCluster) -> None:
    connection = sqlite.connect()
    broken = "CAST(x'7bff7d' AS TEXT)"
    for row in (f"'orders', {broken}, 'key'", f"'orders', 'a', {broken}", f"{broken}, 'a', 'topic'"):
        connection.execute(f"INSERT INTO {TABLE} (topic, key, value) VALUES ({row})")
    insert(sqlite, ("orders", "a", "fine"))
    async with running(sqlite, cluster):
        await until(lambda: count(sqlite, "sent IS NULL AND failed IS NULL") == 0, WITHIN_S, "all are settled")
    assert values(cluster, "orders") == [b"fine"]
    reasons = [failure for (failure,) in ask(sqlite, f"SELECT failure FROM {TABLE} WHERE id < 4 ORDER BY id")]
    assert [reason.split(":")[:2] for reason in reasons[:2]] == [
        ["RowBroken", " key isn't UTF-8"], ["RowBroken", " value isn't UTF-8"],
    ]  # fmt: skip
    assert reasons[2].startswith("bad_topic: ")


async def test_a_time_that_the_application_wrote_and_no_one_can_read_stops_nothing(
    sqlite: SqliteDatabase, cluster: StrictCluster
) -> None:
    connection = sqlite.connect()
    connection.execute(f"INSERT INTO {TABLE} (topic, value, created) VALUES ('missing', 'waits', '21.11.2026')")
    insert(sqlite, ("orders", "a", "1"))
    table = Table(Source(sqlite.url, TABLE))
    async with running(sqlite, cluster):
        await until(lambda: count(sqlite, "sent IS NOT NULL") == 1, WITHIN_S, "the other is sent")
        backlog = await table.backlog()
        assert (backlog.unsent, backlog.oldest_s) == (1, 0.0)
        assert await table.by_topic() == [("missing", 1, 0.0)]
    table.close()


async def test_rows_behind_one_for_which_there_is_no_room_do_not_pass_it(
    sqlite: SqliteDatabase, cluster: StrictCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(sqlite, *(("orders", "a", f"{n}") for n in range(20)))
    produce, refused = ReliableProducer.produce, []

    def is_full(
        producer: ReliableProducer, topic: str, partition: int | None, payload: Payload, **more: Any
    ) -> Delivery:
        if payload == b"7" and len(refused) < 3:
            refused.append(payload)
            raise BufferFull("no room for one of this size")
        return produce(producer, topic, partition, payload, **more)

    monkeypatch.setattr(ReliableProducer, "produce", is_full)
    async with running(sqlite, cluster):
        await until(lambda: not count(sqlite, "sent IS NULL"), WITHIN_S, "every row is marked")
    assert len(refused) == 3
    assert values(cluster, "orders") == [b"%d" % n for n in range(20)]


async def test_a_retry_of_a_topic_without_a_name_is_none_of_all(sqlite: SqliteDatabase) -> None:
    """`hardparts outbox retry --topic "$TOPIC"`, where nobody has set TOPIC."""
    insert(sqlite, ("orders", "a", "1"), ("orders", "a", "2"))
    with sqlite.connect() as connection:
        connection.execute(f"UPDATE {TABLE} SET failed = 'then'")
    table = Table(Source(sqlite.url, TABLE))
    assert [await table.retry(topic=""), await table.retry(topic="orders"), await table.retry()] == [0, 2, 0]
    table.close()


async def test_a_row_that_fails_again_counts_its_attempts(sqlite: SqliteDatabase, cluster: StrictCluster) -> None:
    insert(sqlite, ("orders", "a", "poison"), ("orders", "a", "fine"))
    table = Table(Source(sqlite.url, TABLE))
    async with running(sqlite, cluster):
        for attempts in (1, 2):
            await until(lambda n=attempts: count(sqlite, f"failed IS NOT NULL AND attempts = {n}"), WITHIN_S, "failed")
            assert await table.retry([1, 2]) == 1
    table.close()


async def test_a_row_beyond_any_limit_is_not_even_read(sqlite: SqliteDatabase, cluster: StrictCluster) -> None:
    insert(sqlite, ("orders", "a", "x" * 2_001), ("orders", "a", "x" * 1_000))
    async with running(sqlite, cluster, bounds=Bounds(bytes=8_000)):
        await until(lambda: count(sqlite, "sent IS NOT NULL") == 1, WITHIN_S, "the other is sent")
    assert ask(sqlite, f"SELECT failure FROM {TABLE} WHERE id = 1") == [("too_large: 2002 bytes",)]


@pytest.mark.parametrize("how", ["missing", "denied"])
async def test_a_topic_that_is_refused_waits_in_order_and_others_go_on(
    sqlite: SqliteDatabase, cluster: StrictCluster, how: str
) -> None:
    if how == "missing":
        cluster.counts.pop("orders")
    else:
        cluster.denied.add("orders")
    insert(sqlite, *(("orders", "a", f"{n}") for n in range(100)), *(("invoices", "a", f"{n}") for n in range(100)))
    async with running(sqlite, cluster) as relay:
        await until(lambda: count(sqlite, "sent IS NOT NULL") == 100, WITHIN_S, "the other topic goes on")
        await until(lambda: opened(relay) == {"outbox:topic:orders"}, WITHIN_S, "it is told")
        assert list(relay.held()) == ["orders"]
        insert(sqlite, ("invoices", "a", "100"), ("orders", "a", "100"))
        await until(lambda: values(cluster, "invoices")[100:], WITHIN_S, "it still goes on")
        assert count(sqlite, "failed IS NOT NULL") == 0
        cluster.counts["orders"] = 1
        cluster.denied.clear()
        await until(lambda: not count(sqlite, "sent IS NULL"), WITHIN_S, "every row is marked")
        assert (opened(relay), relay.held()) == (set(), {})
    assert values(cluster, "orders") == [b"%d" % n for n in range(101)]
    assert values(cluster, "invoices") == [b"%d" % n for n in range(101)]


async def test_a_topic_that_is_denied_later_goes_on_where_it_stopped(
    sqlite: SqliteDatabase, cluster: StrictCluster
) -> None:
    cluster.denied_after["orders"] = 100
    insert(sqlite, *(("orders", "a", f"{n}") for n in range(3_000)))
    async with running(sqlite, cluster, bounds=Bounds(chunk_rows=50)) as relay:
        await until(relay.held, WITHIN_S, "it is denied")
        assert len(values(cluster, "orders")) >= 100
        insert(sqlite, *(("orders", "a", f"{n}") for n in range(3_000, 3_010)))
        cluster.denied_after.clear()
        await until(lambda: not count(sqlite, "sent IS NULL"), WITHIN_S, "every row is marked")
    assert list(dict.fromkeys(values(cluster, "orders"))) == [b"%d" % n for n in range(3_010)]


async def test_a_topic_that_does_not_answer_holds_up_no_other(sqlite: SqliteDatabase, cluster: StrictCluster) -> None:
    cluster.silent.add("orders")
    insert(sqlite, *(("orders", "a", f"{n}") for n in range(1_000)), *(("invoices", "a", f"{n}") for n in range(1_000)))
    async with running(sqlite, cluster, bounds=Bounds(rows=400, chunk_rows=100)):
        await until(lambda: count(sqlite, "sent IS NOT NULL") == 1_000, WITHIN_S, "the other topic is through")
        assert values(cluster, "orders") == []
        cluster.answers.set()
        await until(lambda: not count(sqlite, "sent IS NULL"), WITHIN_S, "every row is marked")
    assert values(cluster, "orders") == [b"%d" % n for n in range(1_000)]


async def test_a_failure_of_our_own_ends_the_process_and_loses_nothing(
    sqlite: SqliteDatabase, cluster: StrictCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(sqlite, ("orders", "a", "1"))

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(ReliableProducer, "produce", fail)
        with pytest.raises(ZeroDivisionError):
            async with running(sqlite, cluster) as relay:
                await until(relay._stopping.is_set, WITHIN_S, "it ends")
    assert count(sqlite, "sent IS NULL") == 1
