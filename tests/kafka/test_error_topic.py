"""An error record that the broker doesn't take holds its partition: nothing is skipped, nothing committed."""  # E2

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka import requests, sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.trial import Trial
from tests.kafka.waiting import until
from tests.kafka.webhook import Webhook
from tests.oracle.generator import Made, Mix, generate
from tests.oracle.records import SOURCES, USER_EVENTS, partition_of
from tests.oracle.truth import read

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
POISON_KEY = b"1"
POISON = b"Robert'); drop table students"
HELD_FOR_S = 12.0


def records(seed: int) -> Iterator[Made]:
    """Good events of many users, with one poison record of POISON_KEY in the middle."""
    good = list(generate(seed, Mix(events=4_000, poison=0.0)))
    yield from good[:2_000]
    yield Made(USER_EVENTS, POISON_KEY, POISON, (), "poison")
    yield from good[2_000:]


async def poison_offset(trial: Trial, poisoned: int) -> int:
    """Where the poison record stands in its partition of the input."""
    log = (await read(trial.cluster.bootstrap, [USER_EVENTS]))[USER_EVENTS][poisoned]
    return next(record.offset for record in log if record.value == POISON)


async def held(trial: Trial, poisoned: int) -> None:
    """Every other partition gets to its end; the poisoned one doesn't get past the poison record, and stays so."""
    inputs = await read(trial.cluster.bootstrap, SOURCES)

    async def others_are_done() -> bool:
        committed = await trial.committed()
        return all(
            committed.get((topic, number), 0) == len(inputs[topic][number])
            for topic in SOURCES
            for number in range(trial.partitions)
            if number != poisoned and inputs[topic][number]
        )

    await until(others_are_done, 30, "the other partitions advance")
    await asyncio.sleep(HELD_FOR_S)  # long enough for time limits to be passed
    assert (await trial.committed()).get((USER_EVENTS, poisoned), 0) <= await poison_offset(trial, poisoned)


async def test_a_deleted_error_topic_holds_the_partition_and_raises_one_alert_until_it_is_back(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    poisoned = partition_of(POISON_KEY, 4)
    with Webhook() as webhook:
        async with Trial(kafka, tmp_path, alert_webhook=webhook.url) as trial:
            worker = trial.worker("one")
            await trial.start(worker)
            await requests.delete_topic(kafka.bootstrap, trial.errors)
            journal = await trial.write(records(sizes.seed()))
            await held(trial, poisoned)
            await until(lambda: webhook.states("") == ["open"], 30, "one alert is open")
            trial.create(trial.errors)
            await trial.caught_up(60)
            await until(lambda: webhook.states("") == ["open", "closed"], 10, "and closed")
            report = await trial.verdict(journal)
    assert report.figures["error records"] == 1


async def test_sigterm_while_an_error_record_waits_ends_the_worker_without_committing_it(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    poisoned = partition_of(POISON_KEY, 4)
    async with Trial(kafka, tmp_path) as trial:
        worker = trial.worker("one")
        await trial.start(worker)
        await requests.delete_topic(kafka.bootstrap, trial.errors)
        journal = await trial.write(records(sizes.seed()))
        await held(trial, poisoned)
        await trial.stop(worker)
        assert (await trial.committed()).get((USER_EVENTS, poisoned), 0) <= await poison_offset(trial, poisoned)
        trial.create(trial.errors)
        await trial.start(worker)
        report = await trial.verdict(journal)
    assert report.figures["error records"] == 1


async def test_too_few_replicas_for_the_error_topic_hold_the_partition(kafka3: KafkaCluster, tmp_path: Path) -> None:
    poisoned = partition_of(POISON_KEY, 4)
    with Webhook() as webhook:
        async with Trial(kafka3, tmp_path, alert_webhook=webhook.url) as trial:
            worker = trial.worker("one")
            await trial.start(worker)
            await requests.configure_topic(kafka3.bootstrap, trial.errors, {"min.insync.replicas": "3"})
            victim = kafka3.leader(trial.errors, poisoned)
            await asyncio.to_thread(kafka3.kill_broker, victim)
            journal = await trial.write(records(sizes.seed()))
            await held(trial, poisoned)
            await until(lambda: webhook.states("") == ["open"], 30, "one alert is open")
            await asyncio.to_thread(kafka3.start_broker, victim)
            await trial.caught_up(60)
            await until(lambda: webhook.states("") == ["open", "closed"], 10, "and closed")
            report = await trial.verdict(journal)
    assert report.figures["error records"] == 1
