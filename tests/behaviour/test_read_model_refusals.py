"""Whom the read model blames when a transaction fails, and that it never loses a row in silence (E3)."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, Engine, ForeignKey, MetaData, String, Table, event

from pipeline.core.effects import Upsert
from pipeline.core.errors import Blocking
from pipeline.core.record import StoredRecord
from pipeline.runtime import database as module
from pipeline.runtime.database import Database, UpsertsRejected

METADATA = MetaData()
Table("authors", METADATA, Column("name", String, primary_key=True), Column("born", BigInteger, nullable=False))
for table, deferred in (("books", None), ("drafts", "DEFERRED")):
    author = ForeignKey("authors.name", deferrable=True if deferred else None, initially=deferred)
    Table(table, METADATA, Column("title", String, primary_key=True), Column("author", String, author, nullable=False))


def author(name: object, born: object = 1900) -> Upsert:
    return Upsert("authors", {"name": name, "born": born})


def written(title: str, by: str, table: str = "books") -> Upsert:
    return Upsert(table, {"title": title, "author": by})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "read-model.sqlite3"


@pytest.fixture
def database(path):
    def enforce(connection, _record) -> None:
        connection.execute("pragma foreign_keys = on")

    event.listen(Engine, "connect", enforce)
    database = Database(f"sqlite:///{path}", METADATA)
    yield database
    database.close()
    event.remove(Engine, "connect", enforce)


def stored(path, table: str) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return sorted(row[0] for row in connection.execute(f"select * from {table}"))
    finally:
        connection.close()


async def test_rows_are_written_in_the_order_of_their_events(database, path):
    await database.write([author("a"), written("a1", "a"), author("b"), written("b1", "b")])
    await database.write([written("b2", "b"), author("c"), written("c1", "c")])
    assert stored(path, "authors") == ["a", "b", "c"]
    assert stored(path, "books") == ["a1", "b1", "b2", "c1"]


async def test_a_transaction_that_fails_although_each_row_is_fine_blocks(database, path):
    with pytest.raises(Blocking, match="FOREIGN KEY"):
        await database.write([author("a"), written("x1", "nobody", "drafts")])
    assert stored(path, "authors") == stored(path, "drafts") == []


async def test_looking_for_the_offender_writes_nothing(database, path):
    with pytest.raises(UpsertsRejected) as refused:
        await database.write([author("a"), author("b", None), author("c")])
    assert list(refused.value.reasons) == [1]
    assert stored(path, "authors") == []


def read_at(offset: int, topic: str = "user-events") -> list[Any]:
    """The origins of one row."""
    return [SimpleNamespace(record=StoredRecord(topic, 0, offset, 0, None, None))]


async def faults(database: Database, offsets: Iterable[int]) -> list[str]:
    """Whose fault it is that the database refuses a row, record by record."""
    found = []
    for offset in offsets:
        with pytest.raises(UpsertsRejected) as refused:
            await database.write([written(f"b{offset}", "nobody")], read_at(offset))
        found.append(refused.value.reasons[0].fault)
    return found


async def test_one_record_that_is_judged_again_and_again_stays_one_record(database):
    """Its write is tried again after a timeout, or its batch after a rebalance."""
    assert await faults(database, [1] * 6) == ["record"] * 6
    assert await faults(database, [2, 2, 3, 3]) == ["record"] * 4
    assert await faults(database, [4, 1, 4, 5]) == ["database"] * 4


@pytest.mark.parametrize("value", [2**70, {}, "\ud800"], ids=["too large", "of no SQL type", "no UTF-8"])
async def test_a_value_that_cannot_be_bound_is_the_fault_of_its_record(database, value):
    with pytest.raises(UpsertsRejected) as refused:
        await database.write([author("a"), author("b", value) if value != "\ud800" else author(value), author("c")])
    assert list(refused.value.reasons) == [1]


async def test_a_damaged_database_is_no_records_fault(database, path):
    await database.write([author("a")])
    database.close()
    path.write_bytes(b"this is no database" * 1000)
    with pytest.raises(Blocking, match="not a database"):
        await database.write([author("b")])


async def test_a_database_that_does_not_answer_blocks(path, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.2)
    database = Database(f"sqlite:///{path}?timeout=30", METADATA)
    rival = sqlite3.connect(path, isolation_level=None)
    rival.execute("begin exclusive")
    with pytest.raises(Blocking, match=r"no answer within 0\.2 s") as failure:
        await database.write([author("a")])
    assert failure.value.dependency == "database"
    rival.execute("rollback")
    rival.close()
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 20)
    await database.write([author("a")])  # the late one and this one are the same row
    assert stored(path, "authors") == ["a"]
    database.close()


HANGING = """
import asyncio, sys
from sqlalchemy import Column, MetaData, String, Table
from pipeline.core.effects import Upsert
from pipeline.runtime.database import Database

metadata = MetaData()
Table("words", metadata, Column("word", String, primary_key=True))

async def main():
    writing = asyncio.create_task(Database(sys.argv[1], metadata).write([Upsert("words", {"word": "a"})]))
    await asyncio.wait([writing], timeout=0.5)
    print("waits" if not writing.done() else writing.exception())

asyncio.run(main())
"""


def test_a_database_that_does_not_answer_keeps_no_process_from_ending(path):
    rival = sqlite3.connect(path, isolation_level=None)
    rival.execute("begin exclusive")
    command = [sys.executable, "-c", HANGING, f"sqlite:///{path}?timeout=100"]
    ended = subprocess.run(command, timeout=30, capture_output=True, text=True, check=True)
    assert ended.stdout == "waits\n"
    rival.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg2://u:secret@h/y", "a driver that isn't installed: No module named 'psycopg2'"),
        ("mysql://u:secret@h/y", "a driver that isn't installed: No module named 'MySQLdb'"),
        ("postgresql://u:secret@h:secret/y", "can't be used: ValueError"),
        ("sqlite:///x?timeout=secret", "can't be used: ValueError"),
    ],
)
async def test_a_url_that_cannot_be_used_blocks_its_agent_and_not_the_worker(url, said):
    with pytest.raises(Blocking, match="HARDPARTS_DATABASE_URL ") as blocked:
        await Database(url, METADATA).write([author("a")])
    assert said in blocked.value.message
    assert "secret" not in blocked.value.message
