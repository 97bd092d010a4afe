"""The group's offsets, moved by Kafka's own tool while no worker runs: back is followed, ahead waits for a person."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.kafka import pages
from tests.kafka.cluster import KafkaCluster
from tests.kafka.jars import program
from tests.kafka.test_changelog_tail import comment, counts, dies_in_recovery
from tests.kafka.trial import GUARANTEES, Trial
from tests.kafka.waiting import until
from tests.oracle.records import USER_EVENTS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


async def reset(trial: Trial, offset: int) -> None:
    """`kafka-consumer-groups.sh --reset-offsets --to-offset` for partition 0 of the source."""
    command = program(
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        *("--bootstrap-server", trial.cluster.bootstrap, "--group", trial.app_id, "--reset-offsets"),
        *("--to-offset", str(offset), "--topic", f"{USER_EVENTS}:0", "--execute"),
    )
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=True)
    assert str(offset) in ended.stdout


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_offsets_set_back_are_read_again_and_offsets_set_ahead_pass_over_nothing(
    kafka: KafkaCluster, tmp_path: Path, guarantee: str
) -> None:
    async with Trial(kafka, tmp_path, partitions=1, processing_guarantee=guarantee) as trial:
        worker = trial.worker("one")
        await trial.start(worker)
        await trial.write(comment(number) for number in range(6))
        await trial.caught_up()
        await trial.stop(worker)

        await reset(trial, 2)
        await trial.start(worker)
        await trial.caught_up()
        assert await counts(trial) == [1, 2, 3, 4, 5, 6], "duplicates count once"
        assert "somebody has set the group's offset back from 6 to 2" in worker.end_of_log(100_000)
        await trial.stop(worker)

        await trial.write(comment(number) for number in range(4))
        await reset(trial, 9)
        await dies_in_recovery(trial)
        worker = trial.worker("one")
        await trial.start(worker)

        async def held_up() -> bool:
            return [one["reason"] for one in (await pages.ready(worker))["blocked"]] == ["offsets-moved"]

        await until(held_up, 30, "it waits for a person")
        await until(lambda: "records 6 to 8 would be passed over" in worker.end_of_log(100_000), 10, "it says so")
        await trial.stop(worker)
        assert (await trial.committed())[USER_EVENTS, 0] == 9, "what a person has set is still there"

        await reset(trial, 6)
        await trial.start(worker)
        await trial.caught_up()
        assert await counts(trial) == list(range(1, 11))
        await trial.stop(worker)
