"""A transaction that its writer has left open on a source holds back every record behind it, committed or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from pipeline.ops.doctor import open_transactions
from pipeline.runtime.settings import read_settings
from tests.kafka import pages
from tests.kafka.cluster import KafkaCluster
from tests.kafka.test_source_truncated import comments, counts, running
from tests.kafka.waiting import until
from tests.oracle.records import USER_EVENTS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
BEFORE, BEHIND = 10, 200
ALERT = f"open-transaction/{USER_EVENTS}/0"


async def test_a_transaction_left_open_is_lag_and_an_alert_until_it_ends(kafka: KafkaCluster, tmp_path: Path) -> None:
    async with running(kafka, tmp_path, "at_least_once", comments(BEFORE)) as (trial, worker, webhook):
        foreign = AIOKafkaProducer(
            bootstrap_servers=kafka.bootstrap, transactional_id="foreign", transaction_timeout_ms=600_000
        )
        await foreign.start()
        try:
            await foreign.begin_transaction()
            [first] = comments(1)
            held_at = (await foreign.send_and_wait(USER_EVENTS, first.value, key=first.key, partition=0)).offset
            await trial.write(comments(BEHIND))

            async def lag(name: str) -> float | None:
                return await pages.metric(worker, name, topic=USER_EVENTS, partition="0")

            async def counts_as_lag() -> bool:
                return await lag("hardparts_lag_records") == BEHIND + 1

            await until(counts_as_lag, 20, "what is behind the open transaction is lag")
            assert await lag("hardparts_lag_readable_records") == 0
            await until(lambda: webhook.states(ALERT) == ["open"], 60, "the alert")
            opened = next(body for body in webhook.received if body["alert"] == ALERT)
            assert (opened["topic"], opened["partition"], opened["offset"]) == (USER_EVENTS, 0, held_at)
            assert len(await counts(trial)) == BEFORE, "nothing behind it can be read"
            [found] = await open_transactions(read_settings(broker=kafka.bootstrap), [TopicPartition(USER_EVENTS, 0)])
            assert found.level == "WARN"
            assert found.detail.startswith(f"{USER_EVENTS}[0] can be read up to {held_at} only")
            await foreign.commit_transaction()
        finally:
            await foreign.stop()
        await until(lambda: webhook.states(ALERT) == ["open", "closed"], 30, "it closes")
        await trial.caught_up(30)
        await trial.stop(worker)
        assert await counts(trial) == list(range(1, BEFORE + 1 + BEHIND + 1))
