"""Others in the workers' group: what they keep a worker from, what it says, and that it goes on once they have left."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import InconsistentGroupProtocolError

from tests.kafka import pages
from tests.kafka.cluster import KafkaCluster
from tests.kafka.jars import program
from tests.kafka.trial import Trial
from tests.kafka.waiting import until
from tests.oracle.process import Worker
from tests.oracle.records import USER_EVENTS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@asynccontextmanager
async def stranger(trial: Trial) -> AsyncIterator[AIOKafkaConsumer]:
    """A plain consumer that joins the workers' group."""
    consumer = AIOKafkaConsumer(
        USER_EVENTS, bootstrap_servers=trial.cluster.bootstrap, group_id=trial.app_id, client_id="stranger",
        session_timeout_ms=6_000, heartbeat_interval_ms=500,
    )  # fmt: skip
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _reason(worker: Worker) -> str:
    return str((await pages.ready(worker)).get("reason"))


async def _says(worker: Worker, text: str) -> None:
    await until(lambda: text in worker.end_of_log(), 30, f"{worker.instance} says {text!r}")


async def _ended(worker: Worker) -> str:
    """What a worker said that ends with 1 by itself."""
    assert await asyncio.to_thread(worker.process.wait, 40) == 1, worker.end_of_log()
    return worker.end_of_log()


async def test_a_worker_waits_until_another_kind_of_consumer_has_left_and_keeps_the_next_one_out(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    async with Trial(kafka, tmp_path) as trial:
        worker = trial.worker("one")
        async with stranger(trial) as other:
            await until(other.assignment, 20, "the stranger is a member")
            worker.start()
            said = f"group {trial.app_id} has members of another kind (assignor roundrobin: stranger at 127.0.0.1)"
            await _says(worker, f"{said}: stop them, or give them another group; trying again in 2 s")
            assert said in await _reason(worker)
            await _says(worker, "ALERT opened takeover")
        await asyncio.to_thread(worker.wait_ready, 40)
        await _says(worker, "ALERT closed takeover")
        with pytest.raises(InconsistentGroupProtocolError):
            async with stranger(trial) as other:
                await asyncio.wait_for(other.getone(), 20)
        assert (await pages.ready(worker))["ready"]
        assert len(trial.takeovers(worker)) == 1


async def test_a_member_of_the_newer_protocol_is_waited_for_too(kafka: KafkaCluster, tmp_path: Path) -> None:
    async with Trial(kafka, tmp_path) as trial:
        worker, flags = trial.worker("one"), ("--bootstrap-server", kafka.bootstrap, "--group", trial.app_id)
        consume = program(
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            *(*flags, "--topic", USER_EVENTS, "--consumer-property", "group.protocol=consumer"),
        )
        describe = program("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", *flags, "--describe")
        with subprocess.Popen(consume, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as other:  # noqa: ASYNC220

            async def is_member() -> bool:
                said = await asyncio.to_thread(subprocess.run, describe, capture_output=True, timeout=30, check=False)
                return b"console-consumer" in said.stdout

            try:
                await until(is_member, 30, "it is a member")
                worker.start()
                await _says(worker, "newer `consumer` protocol")
            finally:
                other.terminate()
        await asyncio.to_thread(worker.wait_ready, 40)


async def test_settings_that_the_group_refuses_end_the_worker_by_name(kafka: KafkaCluster, tmp_path: Path) -> None:
    async with Trial(kafka, tmp_path) as trial:
        worker = trial.worker("one", session_timeout_s="80000")
        worker.start()
        assert "HARDPARTS_SESSION_TIMEOUT_S" in (await _ended(worker)).splitlines()[-1]


async def test_two_workers_of_one_name_with_static_membership(kafka: KafkaCluster, tmp_path: Path) -> None:
    async with Trial(kafka, tmp_path, static_membership="true") as trial:
        first = trial.worker("one")
        await trial.start(first)
        second = Worker(
            "one", tmp_path / "second.log", first._environment | {"HARDPARTS_DATA_DIR": str(tmp_path / "b")}
        )
        with second:
            assert "give each its own HARDPARTS_INSTANCE" in (await _ended(first)).splitlines()[-1]
            await asyncio.to_thread(second.wait_ready, 40)
