"""An application's database with an outbox table in it: the same tests run on SQLite and on PostgreSQL."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from pipeline.outbox import ddl
from pipeline.outbox.name import TableName
from tests.behaviour.postgres import Postgres

TABLE = "kafka_outbox"
COUNTERS = "CREATE TABLE counters (key text PRIMARY KEY, n integer NOT NULL)"


class SqliteDatabase:
    """A file."""

    dialect = "sqlite"

    def __init__(self, directory: Path) -> None:
        self.path = directory / "application.sqlite3"
        with self.connect() as connection:
            connection.executescript("PRAGMA journal_mode=WAL;" + ddl("sqlite", TableName.parse(TABLE)))
            connection.execute(COUNTERS)
        self.url = f"sqlite:///{self.path}"

    def connect(self) -> sqlite3.Connection:
        """A connection that begins and commits when it is told to."""
        connection = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    begin = "BEGIN IMMEDIATE"
    mark = "?"


class PostgresDatabase:
    """A fresh database of a server."""

    dialect = "postgresql"

    def __init__(self, server: Postgres) -> None:
        self._server, self._name = server, server.database()
        with self.connect() as connection:
            connection.execute(ddl("postgresql", TableName.parse(TABLE)))
            connection.execute(COUNTERS)
        self.url = server.url(self._name)

    def connect(self) -> Any:
        """A connection that begins and commits when it is told to."""
        return self._server.connect(self._name)

    begin = "BEGIN"
    mark = "%s"


Database = SqliteDatabase | PostgresDatabase


def insert(database: Database, *rows: tuple[str, str | None, str | None]) -> None:
    """(topic, key, value) each, in one transaction."""
    connection = database.connect()
    try:
        connection.execute(database.begin)
        for row in rows:
            marks = ", ".join([database.mark] * 3)
            connection.execute(f"INSERT INTO {TABLE} (topic, key, value) VALUES ({marks})", row)
        connection.execute("COMMIT")
    finally:
        connection.close()


def ask(database: Database, query: str) -> list[Any]:
    """Rows of a query, each as a tuple."""
    connection = database.connect()
    try:
        return list(connection.execute(query).fetchall())
    finally:
        connection.close()


def count(database: Database, condition: str = "true") -> int:
    """How many rows of the outbox are like that."""
    return int(ask(database, f"SELECT count(*) FROM {TABLE} WHERE {condition}")[0][0])
