"""What the relay does with rows, on SQLite and PostgreSQL: sent in order, marked, and again after a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.outbox import Table
from pipeline.outbox.window import Bounds
from tests.behaviour.postgres import Postgres
from tests.kafka.waiting import until
from tests.outbox.databases import TABLE, Database, PostgresDatabase, SqliteDatabase, ask, count, insert
from tests.outbox.running import StrictCluster, opened, running, values

WITHIN_S = 60


def numbered(topic: str, key: str, numbers: range) -> list[tuple[str, str | None, str | None]]:
    return [(topic, key, f"{number}") for number in numbers]


async def all_marked(database: Database) -> None:
    await until(lambda: not count(database, "sent IS NULL"), WITHIN_S, "every row is marked")


async def test_rows_become_records_in_order_and_are_marked(database: Database, cluster: StrictCluster) -> None:
    insert(database, *numbered("orders", "a", range(300)), ("invoices", "ä", "ü"), ("orders", "gone", None))
    connection = database.connect()
    connection.execute(f"""INSERT INTO {TABLE} (topic, value, headers) VALUES ('invoices', 'x', '{{"h": "ö"}}')""")
    async with running(database, cluster):
        await all_marked(database)
        insert(database, *numbered("orders", "a", range(300, 310)))
        await all_marked(database)
    assert values(cluster, "orders") == [*(b"%d" % n for n in range(300)), None, *(b"%d" % n for n in range(300, 310))]
    assert values(cluster, "invoices") == ["ü".encode(), b"x"]
    assert "ä".encode() in cluster.keys
    assert [("h", "ö".encode())] in cluster.headers


async def test_bytes_are_sent_as_they_are(sqlite: SqliteDatabase, cluster: StrictCluster) -> None:
    with sqlite.connect() as connection:
        connection.execute(f"INSERT INTO {TABLE} (topic, key, value) VALUES ('orders', x'00ff', x'fe00')")
    async with running(sqlite, cluster):
        await all_marked(sqlite)
    assert (cluster.keys, values(cluster, "orders")) == ([b"\0\xff"], [b"\xfe\0"])


async def test_acked_and_not_marked_before_the_end_is_sent_again(
    database: Database, cluster: StrictCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(database, *numbered("orders", "a", range(50)))

    async def crash(*_: object) -> None:
        raise RuntimeError("crashed before marking")

    with monkeypatch.context() as patched:
        patched.setattr(Table, "mark_sent", crash)
        with pytest.raises(RuntimeError, match="before marking"):
            async with running(database, cluster) as relay:
                await until(lambda: relay._stopping.is_set() or values(cluster, "orders"), WITHIN_S, "sent")
    assert count(database, "sent IS NULL") == 50
    sent_before = len(values(cluster, "orders"))
    assert sent_before
    async with running(database, cluster):
        await all_marked(database)
    assert len(values(cluster, "orders")) == 50 + sent_before
    assert list(dict.fromkeys(values(cluster, "orders"))) == [b"%d" % n for n in range(50)]


async def test_an_acknowledgement_that_is_lost_repeats_and_leaves_nothing_out(
    database: Database, cluster: StrictCluster
) -> None:
    cluster.acks_lost = 2
    insert(database, *numbered("orders", "a", range(50)))
    async with running(database, cluster):
        await all_marked(database)
    assert list(dict.fromkeys(values(cluster, "orders"))) == [b"%d" % n for n in range(50)]


@pytest.mark.postgres
async def test_a_row_whose_transaction_ends_late_is_not_left_behind(
    postgres: PostgresDatabase, cluster: StrictCluster
) -> None:
    slow = postgres.connect()
    slow.execute("BEGIN")
    slow.execute(f"INSERT INTO {TABLE} (topic, key, value) VALUES ('orders', 'a', 'first id')")
    insert(postgres, ("orders", "b", "second id"))
    async with running(postgres, cluster):
        await until(lambda: count(postgres, "sent IS NOT NULL") == 1, WITHIN_S, "the visible one is sent")
        slow.execute("COMMIT")
        await all_marked(postgres)
    assert ask(postgres, f"SELECT value FROM {TABLE} ORDER BY id") == [("first id",), ("second id",)]
    assert values(cluster, "orders") == [b"second id", b"first id"]
    slow.close()


async def test_while_kafka_is_away_rows_wait_in_the_table_and_memory_is_bounded(
    database: Database, cluster: StrictCluster
) -> None:
    cluster.go_away()
    insert(database, *numbered("orders", "a", range(2_000)), *numbered("invoices", "a", range(2_000)))
    bounds = Bounds(rows=400, chunk_rows=100)
    async with running(database, cluster, bounds=bounds) as relay:
        await until(lambda: relay._window.taken == 200, WITHIN_S, "both topics have their share")
        insert(database, *numbered("orders", "a", range(2_000, 2_010)))
        assert relay._window.taken == 200
        assert relay.trouble is None
        cluster.come_back()
        await all_marked(database)
    assert values(cluster, "orders") == [b"%d" % n for n in range(2_010)]
    assert values(cluster, "invoices") == [b"%d" % n for n in range(2_000)]


@pytest.mark.postgres
async def test_a_database_that_goes_away_is_waited_for(
    server: Postgres, postgres: PostgresDatabase, cluster: StrictCluster
) -> None:
    insert(postgres, *numbered("orders", "a", range(10)))
    async with running(postgres, cluster) as relay:
        await all_marked(postgres)
        server.stop()
        try:
            await until(lambda: relay.trouble, WITHIN_S, "it is noticed")
            await until(lambda: "outbox:database" in opened(relay), WITHIN_S, "and told")
        finally:
            server.start()
        insert(postgres, *numbered("orders", "a", range(10, 20)))
        await all_marked(postgres)
        assert (relay.trouble, opened(relay)) == (None, set())
    assert values(cluster, "orders") == [b"%d" % n for n in range(20)]


async def test_a_second_relay_stands_by_and_takes_over(database: Database, cluster: StrictCluster) -> None:
    async with running(database, cluster) as first:
        await until(lambda: first.active, WITHIN_S, "the first is active")
        async with running(database, cluster) as standby:
            await until(lambda: standby.trouble is None, WITHIN_S, "the other stands by")
            insert(database, *numbered("orders", "a", range(10)))
            await all_marked(database)
            assert (first.active, standby.active) == (True, False)
            first.stop()
            await until(lambda: standby.active, WITHIN_S, "it has taken over")
            insert(database, *numbered("orders", "a", range(10, 20)))
            await all_marked(database)
    assert values(cluster, "orders") == [b"%d" % n for n in range(20)]


async def test_sent_rows_are_deleted_after_their_time_and_no_others(
    database: Database, cluster: StrictCluster, tmp_path: Path
) -> None:
    insert(database, ("missing", "a", "waits"), ("bad topic", "a", "failed"), *numbered("orders", "a", range(20)))
    async with running(database, cluster):
        await until(lambda: count(database, "sent IS NOT NULL") == 20, WITHIN_S, "sent")
    async with running(database, cluster, keep_s=3600):
        await until(lambda: count(database, "failed IS NOT NULL") == 1, WITHIN_S, "a round or two")
        assert count(database) == 22
    async with running(database, cluster, keep_s=0):
        await until(lambda: count(database) == 2, WITHIN_S, "deleted")
    assert ask(database, f"SELECT value FROM {TABLE} ORDER BY id") == [("waits",), ("failed",)]
