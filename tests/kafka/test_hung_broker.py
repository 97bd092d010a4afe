"""A broker that answers nothing and closes nothing, like a host that lost its power or its network."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kafka import requests, sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.trial import Trial
from tests.kafka.waiting import until
from tests.oracle.generator import Mix, generate
from tests.oracle.lag import wait_for_lag_zero
from tests.oracle.records import SOURCES
from tests.oracle.writer import write

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(300)]
LAG_ZERO_WITHIN_S = 120.0


async def test_workers_leave_a_coordinator_that_hangs_for_the_next_one(kafka3: KafkaCluster, tmp_path: Path) -> None:
    records = generate(sizes.seed(), Mix(events=2_000))
    async with Trial(kafka3, tmp_path) as trial:
        workers = trial.worker("one"), trial.worker("two")
        await trial.start(*workers)
        await trial.shared(*workers)
        victim = await trial.coordinator()
        others = ",".join(node.address for number, node in kafka3.nodes.items() if number != victim)
        kafka3.freeze_broker(victim)
        try:

            async def they_know() -> bool:
                return victim not in await requests.brokers(others)

            await until(they_know, 60, "the other brokers have put it out")
            journal = await write(others, records, trial.partitions)
            await wait_for_lag_zero(others, trial.app_id, SOURCES, LAG_ZERO_WITHIN_S)
        finally:
            kafka3.thaw_broker(victim)
        await asyncio.to_thread(kafka3.wait_in_sync)
        await trial.verdict(journal)
