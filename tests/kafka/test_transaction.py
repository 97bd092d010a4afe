"""exactly_once on a real broker: a batch's outputs, rows and offsets are committed together, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.core.errors import OwnershipLost
from pipeline.ops.reading import read_to_end
from pipeline.runtime.ownership import ProducerBroken
from pipeline.runtime.settings import read_settings
from pipeline.runtime.transaction import TransactionalOwner
from tests.kafka import requests, sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.trial import Trial
from tests.kafka.waiting import answered
from tests.oracle.generator import Mix, generate
from tests.oracle.truth import read

pytestmark = [pytest.mark.kafka, pytest.mark.versions, pytest.mark.timeout(180)]
ROW = [(b"key", b"value")]


@pytest.fixture
async def owners(kafka: KafkaCluster, changelog: str) -> AsyncIterator[list[TransactionalOwner]]:
    """An older and a newer owner of one unit; the older one has begun a transaction before the newer one came."""
    unit = f"app/{changelog}/0"
    older = await TransactionalOwner.take(kafka.bootstrap.split(","), unit, {})
    await older.begin()
    assert await older.append_rows(changelog, 0, [[(b"k", b"older")]]) == 1
    newer = await TransactionalOwner.take(kafka.bootstrap.split(","), unit, {})
    yield [older, newer]
    await asyncio.gather(older.abandon(), newer.abandon())


async def committed_values(cluster: KafkaCluster, topic: str) -> list[bytes | None]:
    return [record.value for record in (await read(cluster.bootstrap, [topic], "read_committed"))[topic][0]]


async def test_what_a_replaced_owner_has_begun_is_never_committed(
    kafka: KafkaCluster, changelog: str, owners: list[TransactionalOwner]
) -> None:
    older, newer = owners
    group = f"group-{changelog}"
    await newer.append_rows(changelog, 0, [[(b"k", b"newer")]])
    with pytest.raises((OwnershipLost, ProducerBroken)):
        await older.commit({(changelog, 0): 7}, group)
    assert await committed_values(kafka, changelog) == [b"newer"]
    assert await answered(lambda: requests.committed(kafka.bootstrap, group)) == {}


async def test_rows_and_offsets_are_there_after_the_commit_and_not_before(
    kafka: KafkaCluster, changelog: str, owners: list[TransactionalOwner]
) -> None:
    _, newer = owners
    group = f"group-{changelog}"
    await newer.begin()
    await newer.append_rows(changelog, 0, [ROW])
    assert await answered(lambda: requests.committed(kafka.bootstrap, group)) == {}
    await newer.commit({(changelog, 0): 7}, group)
    assert await committed_values(kafka, changelog) == [b"value"]
    assert await answered(lambda: requests.committed(kafka.bootstrap, group)) == {(changelog, 0): 7}


async def test_commands_show_what_is_committed_and_nothing_else(
    kafka: KafkaCluster, changelog: str, owners: list[TransactionalOwner]
) -> None:
    """`tables dump` and `errors list` beside a worker with exactly_once; `erase` counts whatever is on the disks."""
    _, newer = owners
    settings = read_settings(broker=kafka.bootstrap)
    await newer.append_rows(changelog, 0, [[(b"k", b"newer")]])
    await newer.begin()
    await newer.append_rows(changelog, 0, [[(b"k", b"not yet")]])
    assert [record.value async for record in read_to_end(settings, changelog)] == [b"newer"]
    everything = read_to_end(settings, changelog, committed_only=False)
    assert [record.value async for record in everything] == [b"older", b"newer", b"not yet"]


async def test_an_abandoned_owner_does_not_hold_back_readers(
    kafka: KafkaCluster, changelog: str, owners: list[TransactionalOwner]
) -> None:
    _, newer = owners
    await newer.append_rows(changelog, 0, [ROW])
    await newer.begin()
    await newer.append_rows(changelog, 0, [[(b"k", b"unfinished")]])
    await newer.abandon()
    third = await TransactionalOwner.take(kafka.bootstrap.split(","), f"app/{changelog}/0", {})
    await third.append_rows(changelog, 0, [[(b"k", b"after")]])
    assert await committed_values(kafka, changelog) == [b"value", b"after"]
    await third.abandon()


async def test_rows_after_a_failed_append_do_not_join_its_transaction(kafka: KafkaCluster, changelog: str) -> None:
    """Whoever is told that a claim is stored acts on it: it mustn't be in a transaction that nobody commits."""
    held = False
    owner = await TransactionalOwner.take(kafka.bootstrap.split(","), f"app/{changelog}/0", {}, lambda: held)
    with pytest.raises(OwnershipLost):
        await owner.append_rows(changelog, 0, [ROW])
    held = True
    with pytest.raises(ProducerBroken):
        await owner.append_rows(changelog, 0, [ROW])
    await owner.abandon()
    assert await committed_values(kafka, changelog) == []


async def test_commits_whose_answers_are_lost_repeat_nothing(kafka: KafkaCluster, tmp_path: Path) -> None:
    """The redone batch begins behind what was committed: error records, which have no marks, aren't repeated either."""
    settings = {"processing_guarantee": "exactly_once", "app": "tests.kafka.apps.lost_answers:app"}
    async with Trial(kafka, tmp_path, batch_records_max="200", **settings) as trial:
        journal = await trial.write(generate(sizes.seed(), Mix(events=8_000, poison=0.05)))
        worker = trial.worker("one")
        await trial.start(worker)
        report = await trial.verdict(journal)
        assert worker.log.read_text().count("the answer to a commit is lost") > 3
    assert report.figures["error records"] > 100
