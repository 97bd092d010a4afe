"""A worker whose clock is an hour off, or jumps by two while it runs: nothing lost, no eviction, sane figures."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.place import Place
from tests.kafka import pages
from tests.oracle.generator import Mix, generate
from tests.oracle.judge import judge
from tests.oracle.lag import wait_for_lag_zero
from tests.oracle.records import AGENT, SOURCES, Record
from tests.oracle.views import unit_directories
from tests.oracle.writer import write

PARTITIONS = 2
EVENTS = 2_000


def faketime() -> str:
    """libfaketime of Debian's package; without it the test is skipped, but not in CI."""
    found = sorted(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"))
    if not found:
        reason = "no libfaketime (Debian: apt install faketime)"
        pytest.fail(reason, pytrace=False) if os.environ.get("CI") else pytest.skip(reason)
    return str(found[0])


def shift(clock: Path, offset: str) -> None:
    """What the worker's clock is ahead or behind from now on; the file changes as a whole."""
    fresh = clock.with_suffix(".new")
    fresh.write_text(offset + "\n")
    fresh.rename(clock)


def ahead_s(record: Record) -> float:
    """How far ahead of now the worker's clock was when it rejected this."""
    said_ms = int(dict(record.headers)["hp-last-failed-at"] or 0)
    return said_ms / 1000 - time.time()


@pytest.mark.parametrize(("first", "then"), [("+1h", "-1h"), ("-1h", "+1h")])
async def test_a_clock_that_is_off_and_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, then: str
) -> None:
    clock = tmp_path / "clock"
    shift(clock, first)
    preloaded = {
        "LD_PRELOAD": faketime(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",  # the file is read each second
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    records = generate(12, Mix(events=2 * EVENTS, users=100, poison=0.02))
    with Place(tmp_path, partitions=PARTITIONS, session_timeout_s="30") as place:
        with monkeypatch.context() as inherited:  # by the worker; the broker runs already
            for name, value in preloaded.items():
                inherited.setenv(name, value)
            worker = await asyncio.to_thread(place.worker)
        journal = await write(place.bootstrap, (next(records) for _ in range(EVENTS)), PARTITIONS)
        await wait_for_lag_zero(place.bootstrap, place.app_id, SOURCES, 60)
        shift(clock, then)
        await write(place.bootstrap, records, PARTITIONS, rate=500, journal=journal)
        await wait_for_lag_zero(place.bootstrap, place.app_id, SOURCES, 60)
        assert await pages.metric(worker, "hardparts_lag_records", partition="0", topic="user-events") == 0
        behind = await pages.metric(worker, "hardparts_end_to_end_seconds_sum", agent=AGENT)
        count = await pages.metric(worker, "hardparts_end_to_end_seconds_count", agent=AGENT)
        assert behind is not None
        assert count
        assert 0 <= behind <= count * 3_700, "an hour at most, and never less than nothing"
        failed = [record for log in (await place.log(f"{place.app_id}.errors")).values() for record in log]
        assert {round(ahead_s(record) / 3600) for record in failed} == {1, -1}, "the clock was off, and jumped"
        assert worker.stop() == 0
        said = worker.log.read_text()
        assert len([line for line in said.splitlines() if line.startswith("ready")]) == 1, "it kept its partitions"
        alerts = set(re.findall(r"ALERT opened (\S+):", said))
        assert alerts <= {"broker"}, "a machine that stalls for 15 s may have opened that one"
        data = Path(place.cli.environment["HARDPARTS_DATA_DIR"])
        disks: dict[str, Any] = {"owner": unit_directories(data, "one")}
        report = await judge(place.bootstrap, place.app_id, disks=disks, journal=journal, audit=True)
        assert report.ok, str(report)
