"""A topic that the broker denies to the relay: its rows wait in order until it is granted, those of others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.guarded import USER, GuardedCluster
from tests.kafka.waiting import until
from tests.oracle.truth import read
from tests.outbox.databases import SqliteDatabase, count, insert
from tests.outbox.trial import RelayProcess

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
GRANT = "kafka-acls.sh --bootstrap-server $BROKER --command-config admin.properties --add --allow-principal"
WITHIN_S = 120
ROWS = 200


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedCluster]:
    with GuardedCluster(tmp_path_factory.mktemp("guarded")) as cluster:
        yield cluster


def refusals(relay: RelayProcess) -> int:
    return relay.log.read_text().count("undeliverable: topic_authorization_failed")


async def test_a_denied_topic_waits_in_order_and_is_sent_when_it_is_granted(
    guarded: GuardedCluster, tmp_path: Path
) -> None:
    await asyncio.to_thread(guarded.create_topics, {"orders": 2, "invoices": 2})
    await guarded.run(f"{GRANT} User:{USER} --operation Write --topic orders")
    database = SqliteDatabase(tmp_path)
    rows = [(topic, f"{number % 5}", f"{number}") for number in range(ROWS) for topic in ("orders", "invoices")]
    insert(database, *rows)
    settings = guarded.through_certificate()
    relay = RelayProcess(database, settings.pop("broker"), tmp_path, **settings)
    try:
        await until(lambda: count(database, "sent IS NOT NULL") == ROWS, WITHIN_S, "the granted topic is through")
        await until(
            lambda: "ALERT opened outbox:topic:invoices" in relay.log.read_text(), WITHIN_S, "the other one is told"
        )
        await guarded.run(f"{GRANT} User:{USER} --operation Describe --topic invoices")
        before = refusals(relay)
        await until(lambda: refusals(relay) > before, WITHIN_S, "it is tried again")
        assert count(database, "failed IS NOT NULL") == 0
        assert count(database, "sent IS NOT NULL") == ROWS
        await guarded.run(f"{GRANT} User:{USER} --operation Write --topic invoices")
        await until(lambda: not count(database, "sent IS NULL"), WITHIN_S, "every row is sent")
        await until(
            lambda: "ALERT closed outbox:topic:invoices" in relay.log.read_text(), WITHIN_S, "and the alert closes"
        )
        assert relay.stop() == 0, relay.said()
    finally:
        relay.kill()
    for topic, logs in (await read(guarded.bootstrap, ["orders", "invoices"])).items():
        for log in logs.values():
            numbers = list(dict.fromkeys(int(record.value or b"") for record in log))
            assert numbers == sorted(numbers), topic
        assert {int(record.value or b"") for log in logs.values() for record in log} == set(range(ROWS))
