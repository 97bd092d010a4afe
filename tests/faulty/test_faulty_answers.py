"""Produce and commit requests answered with errors, in mid-stream: nothing lost, nothing twice, all in order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.place import Place
from tests.faulty.broker import FaultyBroker, binary
from tests.goprogram import NoGo
from tests.kafka.waiting import until
from tests.oracle.generator import Made, Mix, generate
from tests.oracle.journal import Journal
from tests.oracle.judge import judge
from tests.oracle.lag import wait_for_lag_zero
from tests.oracle.process import Worker
from tests.oracle.records import COMMENT_COUNTS, MESSAGES, NOTIFICATIONS, SOURCES, USER_EVENTS
from tests.oracle.views import unit_directories
from tests.oracle.writer import write

pytestmark = pytest.mark.timeout(900)  # the first run compiles the broker
PARTITIONS = 2
RATE = 300
FIRES_WITHIN_S = 90


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    try:
        binary()
    except NoGo as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the faulty broker can't be compiled: {reason}")


class Stream:
    """Input that goes on until it is told to end."""

    def __init__(self, seed: int) -> None:
        self.journal, self._ending = Journal(seed), False
        self._records = generate(seed, Mix(events=10**9, users=200, poison=0.02))

    def records(self) -> Iterator[Made]:
        while not self._ending:
            yield next(self._records)

    def end(self) -> None:
        self._ending = True


async def judged_after(place: Place, broker: FaultyBroker, faults: list[tuple[str, str, str, int]]) -> Worker:
    """One worker under load; each fault is made, and must have fired, before the next. Then the oracle's verdict."""
    worker = await asyncio.to_thread(place.worker)
    stream = Stream(11)
    writing = asyncio.create_task(
        write(place.bootstrap, stream.records(), PARTITIONS, rate=RATE, journal=stream.journal)
    )
    try:
        for request, topic, error, count in faults:
            fault = broker.fault(request, topic, error, count)
            await until(
                lambda fault=fault, count=count: fault.hits() >= count, FIRES_WITHIN_S, f"{error} for {request} {topic}"
            )
            assert not writing.done(), "it came in mid-stream"
    finally:
        stream.end()
        journal = await writing
    await wait_for_lag_zero(place.bootstrap, place.app_id, SOURCES, 120)
    assert worker.alive
    assert worker.stop() == 0
    data = Path(place.cli.environment["HARDPARTS_DATA_DIR"])
    disks = {"owner": unit_directories(data, "one")}
    report = await judge(place.bootstrap, place.app_id, disks=disks, journal=journal, audit=True)
    print(report)
    assert report.ok, str(report)
    return worker


async def test_produce_errors_on_outputs_changelog_and_error_topic(tmp_path: Path) -> None:
    broker = FaultyBroker()
    with Place(tmp_path, partitions=PARTITIONS, broker=broker) as place:
        changelog, errors = f"{place.app_id}-user-events-changelog", f"{place.app_id}.errors"
        await judged_after(
            place,
            broker,
            [
                ("Produce", COMMENT_COUNTS, "NOT_ENOUGH_REPLICAS", 4),
                ("Produce", changelog, "NOT_ENOUGH_REPLICAS", 4),
                ("Produce", MESSAGES, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", 3),
                ("Produce", changelog, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", 3),
                ("Produce", COMMENT_COUNTS, "REQUEST_TIMED_OUT", 3),
                ("Produce", changelog, "REQUEST_TIMED_OUT", 3),
                ("Produce", NOTIFICATIONS, "MESSAGE_TOO_LARGE", 1),
                ("Produce", changelog, "MESSAGE_TOO_LARGE", 1),
                ("Produce", errors, "MESSAGE_TOO_LARGE", 1),
                ("Produce", changelog, "NOT_LEADER_FOR_PARTITION", 3),
                ("Produce", changelog, "UNKNOWN_SERVER_ERROR", 1),
                ("Produce", changelog, "OUT_OF_ORDER_SEQUENCE_NUMBER", 1),
            ],
        )


async def test_commit_and_coordinator_errors(tmp_path: Path) -> None:
    broker = FaultyBroker()
    with Place(tmp_path, partitions=PARTITIONS, broker=broker) as place:
        await judged_after(
            place,
            broker,
            [
                ("OffsetCommit", USER_EVENTS, "REQUEST_TIMED_OUT", 2),
                ("OffsetCommit", "-", "COORDINATOR_LOAD_IN_PROGRESS", 2),
                ("OffsetCommit", "-", "NOT_COORDINATOR", 2),
                ("OffsetCommit", "-", "UNKNOWN_SERVER_ERROR", 1),
                ("Fetch", USER_EVENTS, "NOT_LEADER_FOR_PARTITION", 3),
            ],
        )
