"""The relay is killed while four writers commit: every row is in its topic, in order per key, none left unmarked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pipeline.broker import EmbeddedBroker
from tests.behaviour.postgres import Postgres
from tests.outbox.databases import PostgresDatabase, SqliteDatabase
from tests.outbox.trial import trial
from tests.outbox.writers import TOPICS

ROWS, KILLS = 5_000, 2


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


async def make_topics(broker: EmbeddedBroker) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 3, 1) for name in TOPICS])
    finally:
        await admin.close()


@pytest.mark.timeout(600)
async def test_with_an_outbox_in_sqlite(broker: EmbeddedBroker, tmp_path: Path) -> None:
    await make_topics(broker)
    await trial(SqliteDatabase(tmp_path), broker.bootstrap, tmp_path, rows=ROWS, kills=KILLS)


@pytest.mark.postgres
@pytest.mark.timeout(600)
async def test_with_an_outbox_in_postgresql(broker: EmbeddedBroker, tmp_path: Path) -> None:
    await make_topics(broker)
    with Postgres() as server:
        await trial(PostgresDatabase(server), broker.bootstrap, tmp_path, rows=ROWS, kills=KILLS)
