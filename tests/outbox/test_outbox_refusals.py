"""Rows and topics that Kafka refuses: a row is set aside and told, a topic waits in order, others go on."""

from __future__ import annotations

import pytest

from pipeline.outbox import Table
from pipeline.outbox.connect import Source
from pipeline.outbox.window import Bounds
from pipeline.producer import ReliableProducer
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
