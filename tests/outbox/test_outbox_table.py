"""The table: its statements use its indexes, and what can't be an outbox is said when the relay starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import text

from pipeline.core.errors import Misconfigured
from pipeline.outbox import DatabaseAway, Table, ddl
from pipeline.outbox.connect import Source
from pipeline.outbox.name import TableName
from pipeline.outbox.statements import Statements
from tests.outbox.databases import TABLE, Database, PostgresDatabase, SqliteDatabase, insert

UNSENT, SENT_ROWS = f"{TABLE}_unsent", 20_000


def plan(database: Database, statement: object) -> str:
    """How the database runs a statement, with 20,000 sent rows in the table."""
    connection = database.connect()
    fill = {
        "sqlite": f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {SENT_ROWS}) "
        f"INSERT INTO {TABLE} (topic, sent) SELECT 't', '2026' FROM n",
        "postgresql": f"INSERT INTO {TABLE} (topic, sent) SELECT 't', now() FROM generate_series(1, {SENT_ROWS})",
    }
    connection.execute(fill[database.dialect])
    connection.execute("ANALYZE")
    connection.close()
    explain = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}[database.dialect]
    with Source(database.url, TABLE).connect() as opened:
        rows = opened.execute(text(explain + str(statement)), {"most": 10, "keep_s": 1000000000})
        return "\n".join(str(tuple(row)) for row in rows)


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("unsent", "unsent"), ("count_unsent", "unsent"), ("oldest_s", "unsent"), ("by_topic", "unsent"),
        ("count_failed", "failed"), ("failures", "failed"), ("delete_sent", "sent"),
    ],
)  # fmt: skip
def test_nothing_walks_through_rows_that_were_sent(database: Database, statement: str, index: str) -> None:
    insert(database, *[("orders", "a", "1")] * 5)
    shown = plan(database, getattr(Statements(database.dialect, TableName.parse(TABLE)), statement))
    assert f"{TABLE}_{index}" in shown, shown
    assert f"SCAN {TABLE}\n" not in shown
    assert f"Seq Scan on {TABLE}" not in shown, shown


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "where is the outbox"),
        ("nothing", "no URL of SQLAlchemy"),
        ("mysql://u:secret@h/d", "HARDPARTS_OUTBOX_URL"),
        ("sqlite://", "in memory"),
        ("sqlite:////nowhere/app.db", "there is no file /nowhere/app.db"),
    ],
)
def test_a_url_that_can_be_no_outbox_is_refused(url: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=said) as raised:
        Source(url, TABLE)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("name", ["", "a b", "A", 'x"; DROP TABLE y; --', "a.b.c", ".", "a.", "x" * 49])
def test_a_name_that_is_no_tables_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured, match="HARDPARTS_OUTBOX_TABLE"):
        TableName.parse(name)


async def test_a_table_that_is_missing_or_something_else_is_said_at_the_start(database: Database) -> None:
    for name in ("elsewhere", "counters"):
        table = Table(Source(database.url, name))
        with pytest.raises(Misconfigured, match=f'table "{name}" can\'t be used as an outbox .*outbox ddl'):
            await table.hold()
        table.close()


async def test_names_that_are_words_of_sql_work(sqlite: SqliteDatabase) -> None:
    with sqlite.connect() as connection:
        connection.executescript(ddl("sqlite", TableName.parse("order")))
    table = Table(Source(sqlite.url, "order"))
    assert await table.hold()
    assert await table.unsent(10, {"x"}) == []
    table.close()


@pytest.mark.postgres
async def test_a_schema_and_rights_on_the_table_alone_are_enough(postgres: PostgresDatabase) -> None:
    connection = postgres.connect()
    connection.execute("CREATE SCHEMA shop")
    connection.execute(ddl("postgresql", TableName.parse("shop.outbox")))
    role = f"relay_{os.getpid()}"
    connection.execute(f"CREATE ROLE {role} LOGIN")
    connection.execute(f"GRANT USAGE ON SCHEMA shop TO {role}")
    url = postgres.url.replace("//test@", f"//{role}@")
    try:
        with pytest.raises(Misconfigured, match="permission denied"):
            await Table(Source(url, "shop.outbox")).hold()
        connection.execute(f"GRANT SELECT, UPDATE ON shop.outbox TO {role}")
        table = Table(Source(url, "shop.outbox"))
        assert await table.hold()
        assert await table.relay_is_active()
        table.close()
        with pytest.raises(Misconfigured, match="permission denied"):
            await Table(Source(url, "shop.outbox"), deletes=True).hold()
    finally:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")


async def test_a_file_that_goes_away_is_waited_for_and_never_made(sqlite: SqliteDatabase, tmp_path: Path) -> None:
    table = Table(Source(sqlite.url, TABLE))
    assert await table.hold()
    table.close()
    sqlite.path.rename(tmp_path / "away")
    with pytest.raises(DatabaseAway):
        await table.hold()
    assert not sqlite.path.exists()
    (tmp_path / "away").rename(sqlite.path)
    assert await table.hold()
    table.close()


async def test_only_one_has_the_table_and_others_see_that(database: Database) -> None:
    first, second = Table(Source(database.url, TABLE)), Table(Source(database.url, TABLE))
    assert not await second.relay_is_active()
    assert await first.hold()
    assert await first.hold()
    assert not await second.hold()
    assert await second.relay_is_active()
    other = Table(Source(database.url, TABLE))
    assert await other.relay_is_active()
    for table in (first, second, other):
        table.close()
