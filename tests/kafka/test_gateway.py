"""A gateway on three brokers: leaders are killed, all brokers are killed, it is killed itself; accepted = in topic."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.behaviour.commandline import CommandLine
from tests.gateway.gateways import TOPIC
from tests.gateway.writers import Writers, accepted_in_order, arrived, empty, missing, running
from tests.kafka.cluster import KafkaCluster
from tests.kafka.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]


async def test_whatever_dies_everything_accepted_is_in_the_topic_in_order_per_user(
    kafka3: KafkaCluster, tmp_path: Path
) -> None:
    await asyncio.to_thread(kafka3.reset)
    await asyncio.to_thread(kafka3.create_topics, {TOPIC: 3})
    cli = CommandLine(f"kafka://{kafka3.bootstrap}", tmp_path, gateway_port="0")
    writers = Writers()

    async def more(count: int) -> None:
        goal = writers.count + count
        await until(lambda: writers.count >= goal, 300, f"{count} more are accepted")

    for life in range(2):
        async with running(cli) as (process, ask):
            writing = asyncio.create_task(writers.write(ask))
            await more(300)
            leader = await asyncio.to_thread(kafka3.leader, TOPIC, life)
            await asyncio.to_thread(kafka3.kill_broker, leader)
            await more(300)
            process.kill()
            await asyncio.wait_for(writing, 60)
            await asyncio.to_thread(kafka3.start_broker, leader)
    async with running(cli) as (process, ask):
        writing = asyncio.create_task(writers.write(ask))
        await more(300)
        for node in kafka3.nodes:
            await asyncio.to_thread(kafka3.kill_broker, node)
        await more(300)
        writers.stopped = True
        await asyncio.wait_for(writing, 60)
        assert (await ask("GET", "/health/ready")).status == 200
        await asyncio.gather(*(asyncio.to_thread(kafka3._spawn, node) for node in kafka3.nodes))
        await until(lambda: empty(ask), 300, "custody is empty")
        assert (await ask("GET", "/undelivered")).body == {"undelivered": []}
    await asyncio.to_thread(kafka3.wait_in_sync)
    found = await arrived(kafka3.bootstrap)
    assert writers.count >= 1_800
    assert missing(writers, found) == set()
    assert accepted_in_order(writers, found)
