"""Expiry under a kill: tombstones in the changelog that RocksDB hasn't seen are applied by whoever comes next (D6)."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka import pages, sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.trial import Trial
from tests.kafka.waiting import until
from tests.oracle.fold import fold
from tests.oracle.generator import Made, Mix, generate
from tests.oracle.journal import Journal
from tests.oracle.process import Worker
from tests.oracle.records import AGENT, SOURCES, USER_EVENTS
from tests.oracle.truth import read
from tests.oracle.views import View, changelog_view, rocksdb_rows, rocksdb_view, unit_directories

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
MIX = Mix(events=4_000)
HORIZON = "1"
MARKS = b"_marks\x00"


def comments(users: int) -> Iterator[Made]:
    """One new comment of each of some users that the generator doesn't know: time moves on in every partition."""
    for user in range(1_000_000, 1_000_000 + users):
        event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": user, "msg": "tick"}}
        yield Made(USER_EVENTS, b"%d" % user, json.dumps(event).encode(), (), "comment.created")


def marks(view: View) -> set[tuple[int, bytes]]:
    return {(partition, row) for partition, rows in view.items() for row in rows if row.startswith(MARKS)}


def counts(view: View) -> dict[str, int]:
    prefix = b"comments\x00"
    return {
        row[len(prefix) :].decode(): int(value)
        for rows in view.values()
        for row, value in rows.items()
        if row.startswith(prefix)
    }


async def died_while_time_moved_on(trial: Trial, worker: Worker, journal: Journal) -> None:
    """Fed until it met its crash point: tombstones acknowledged, RocksDB not written."""

    async def dead() -> bool:
        await trial.write(comments(40), journal)
        return not worker.alive

    await until(dead, 90, "the worker has met its crash point")
    assert worker.process.returncode == -signal.SIGKILL, worker.end_of_log()


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("disk", ["kept", "lost"])
async def test_killed_between_the_tombstones_and_rocksdb(
    kafka: KafkaCluster, tmp_path: Path, disk: str, guarantee: str
) -> None:
    """The input is written before the first worker starts, so each copy comes before any mark may go."""
    async with Trial(kafka, tmp_path, dedup_horizon_s=HORIZON, processing_guarantee=guarantee) as trial:
        journal = await trial.write(generate(sizes.seed(), MIX))
        first = trial.worker("one", crash_at="after-rows:2")
        await trial.start(first)
        await trial.caught_up()
        applied = {key for rows in fold(await read(kafka.bootstrap, SOURCES)).rows.values() for key in rows}
        await died_while_time_moved_on(trial, first, journal)
        changelog = await changelog_view(kafka.bootstrap, trial.app_id)
        ahead = {
            number: marks({number: rocksdb_rows(path)}) - marks({number: changelog[number]})
            for number, path in unit_directories(trial.data, "one").items()
        }
        assert any(ahead.values()), "some tombstones are in the changelog only"
        if disk == "lost":
            trial.wipe(first)

        second = trial.worker("one")
        await trial.start(second)

        async def gone() -> bool:
            await trial.write(comments(40), journal)
            return bool(await pages.metric(second, "hardparts_marks_expired_total", agent=AGENT))

        await until(gone, 90, "the next worker goes on")
        await trial.caught_up()
        owners = unit_directories(trial.data, "one")
        await trial.stop(second)
        fresh = trial.worker("fresh", dedup_horizon_s="3600")
        await trial.start(fresh)
        await trial.stop(fresh)

        views = {
            "changelog": await changelog_view(kafka.bootstrap, trial.app_id),
            "owner": rocksdb_view(owners),
            "fresh": rocksdb_view(unit_directories(trial.data, "fresh")),
        }
        expected = fold(await read(kafka.bootstrap, SOURCES))
        left = {row for _, row in marks(views["changelog"])}
        assert {row for row in applied if row.startswith(MARKS)} - left, "marks have gone"
        for name, view in views.items():
            assert view == views["changelog"], name
            assert counts(view) == expected.counts(), f"{name}: every count is as without expiry"
            others = {row for rows in view.values() for row in rows if not row.startswith(MARKS)}
            wanted = {row for rows in expected.rows.values() for row in rows if not row.startswith(MARKS)}
            assert others == wanted, f"{name}: relations stay"
