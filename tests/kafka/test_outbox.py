"""The outbox relay on a real Kafka, killed while four writers commit; rows that the broker refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.behaviour.postgres import Postgres
from tests.kafka.cluster import KafkaCluster
from tests.kafka.sizes import OUTBOX_KILLS, OUTBOX_ROWS
from tests.kafka.waiting import until
from tests.oracle.truth import read
from tests.outbox.databases import TABLE, PostgresDatabase, SqliteDatabase, ask, count, insert
from tests.outbox.trial import RelayProcess, trial
from tests.outbox.writers import TOPICS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]
LARGE = 2 << 20


async def make_topics(kafka: KafkaCluster) -> None:
    await asyncio.to_thread(kafka.reset)
    await asyncio.to_thread(kafka.create_topics, dict.fromkeys(TOPICS, 4))


async def test_killed_again_and_again_with_an_outbox_in_sqlite(
    kafka: KafkaCluster, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    await make_topics(kafka)
    database = SqliteDatabase(tmp_path)
    figures = await trial(database, kafka.bootstrap, tmp_path, rows=OUTBOX_ROWS(), kills=OUTBOX_KILLS())
    record_property("soak", f"SQLite: {figures}")


@pytest.mark.postgres
async def test_killed_again_and_again_with_an_outbox_in_postgresql(
    kafka: KafkaCluster, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    await make_topics(kafka)
    with Postgres() as server:
        database = PostgresDatabase(server)
        figures = await trial(database, kafka.bootstrap, tmp_path, rows=OUTBOX_ROWS(), kills=OUTBOX_KILLS())
    record_property("soak", f"PostgreSQL: {figures}")


async def test_a_row_too_large_for_its_topic_is_set_aside_and_one_that_fits_is_sent(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    await make_topics(kafka)
    await asyncio.to_thread(kafka.create_topics, {"large": 1}, {"max.message.bytes": str(2 * LARGE)})
    database = SqliteDatabase(tmp_path)
    insert(
        database,
        *[("orders", "a", "before"), ("orders", "a", "x" * LARGE), ("orders", "a", "after")],
        *[("large", "a", "y" * LARGE), ("large", "a", "after")],
    )
    relay = RelayProcess(database, kafka.bootstrap, tmp_path)
    try:
        await until(lambda: count(database, "sent IS NULL AND failed IS NULL") == 0, 120, "every row is settled")
        assert relay.stop() == 0, relay.said()
    finally:
        relay.kill()
    assert ask(database, f"SELECT id, failure FROM {TABLE} WHERE failed IS NOT NULL")[0][0] == 2
    records = await read(kafka.bootstrap, ["orders", "large"])
    values = {topic: [r.value for log in logs.values() for r in log] for topic, logs in records.items()}
    assert values == {"orders": [b"before", b"after"], "large": [b"y" * LARGE, b"after"]}
