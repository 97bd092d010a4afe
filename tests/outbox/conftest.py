"""Each test that asks for `database` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.postgres import Postgres
from tests.outbox.databases import Database, PostgresDatabase, SqliteDatabase
from tests.outbox.running import StrictCluster


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as running:
        yield running


@pytest.fixture
def sqlite(tmp_path: Path) -> SqliteDatabase:
    return SqliteDatabase(tmp_path)


@pytest.fixture
def postgres(server: Postgres) -> PostgresDatabase:
    return PostgresDatabase(server)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def cluster() -> StrictCluster:
    return StrictCluster({"orders": 1, "invoices": 1})
