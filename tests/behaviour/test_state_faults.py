"""A worker is killed and its state damaged, each partition in another way: noticed, rebuilt, and never wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from rocksdict import WriteBatch

from pipeline.runtime.recovery import STATE_AGE_MAX_S
from pipeline.runtime.store import OFFSET, Store
from tests.behaviour.place import Place
from tests.oracle.generator import Mix, generate
from tests.oracle.judge import judge
from tests.oracle.lag import wait_for_lag_zero
from tests.oracle.records import SOURCES
from tests.oracle.views import unit_directories
from tests.oracle.writer import write

WRONG = (b"comments\x00no-such-user", b"7")
"""A row that no event made: it shows whether the state was kept or rebuilt."""


def log_of(path: Path) -> Path:
    """The write-ahead log with the newest rows; a kill leaves one."""
    newest = max(path.glob("*.log"), key=lambda file: file.name)
    assert newest.stat().st_size > 1000
    return newest


def flipped_log(path: Path) -> None:
    file = log_of(path)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def shortened_log(path: Path) -> None:
    file = log_of(path)
    os.truncate(file, file.stat().st_size // 2)


def lost(path: Path) -> None:
    shutil.rmtree(path)


def stale_lock(path: Path) -> None:
    assert (path / "LOCK").exists()


def empty_current(path: Path) -> None:
    os.truncate(path / "CURRENT", 0)


def shortened_table(path: Path) -> None:
    store = Store(path)
    store._db.flush()
    store.close()
    table = max(path.glob("*.sst"), key=lambda file: file.stat().st_size)
    os.truncate(table, table.stat().st_size // 2)


def ahead(path: Path) -> None:
    store = Store(path)
    store.apply([WRONG], (store.offset or 0) + 1_000_000)
    store.close()


def old(path: Path) -> None:
    store = Store(path)
    batch = WriteBatch(raw_mode=True)
    batch.put(*WRONG)
    batch.put(OFFSET, b"%d %.3f" % (store.offset or 0, time.time() - STATE_AGE_MAX_S - 60))
    store._db.write(batch)
    store.close()


KEPT, SET_ASIDE, DELETED = "kept", "set aside", "deleted"
DAMAGES: tuple[tuple[Callable[[Path], None], str], ...] = (
    (flipped_log, KEPT),  # up to the damage, which is a whole write: the changelog has the rest
    (shortened_log, KEPT),
    (stale_lock, KEPT),
    (lost, KEPT),
    (empty_current, SET_ASIDE),
    (shortened_table, SET_ASIDE),
    (ahead, SET_ASIDE),
    (old, DELETED),
)


async def test_whatever_happens_to_its_files_the_state_is_right_again(tmp_path: Path) -> None:
    records = generate(9, Mix(events=12_000, users=400))
    partitions = len(DAMAGES)
    with Place(tmp_path, partitions=partitions) as place:
        worker = await asyncio.to_thread(place.worker)
        journal = await write(place.bootstrap, (next(records) for _ in range(8_000)), partitions)
        await wait_for_lag_zero(place.bootstrap, place.app_id, SOURCES, 60)
        worker.kill()
        data = Path(place.cli.environment["HARDPARTS_DATA_DIR"])
        directories = unit_directories(data, "one")
        for number, (damage, _) in enumerate(DAMAGES):
            damage(directories[number])
        await write(place.bootstrap, records, partitions, journal=journal)
        worker = await asyncio.to_thread(place.worker)
        await wait_for_lag_zero(place.bootstrap, place.app_id, SOURCES, 60)
        assert worker.stop() == 0
        disks = {"owner": unit_directories(data, "one")}
        report = await judge(place.bootstrap, place.app_id, disks=disks, journal=journal, audit=True)
        assert report.ok, str(report)
        said = worker.log.read_text()
        for number, (_, what) in enumerate(DAMAGES):
            aside = list(directories[number].parent.glob(f"{number}.set-aside-*"))
            assert len(aside) == (what == SET_ASIDE), (number, aside)
            assert (f"user-events/{number}: local state deleted and rebuilt" in said) == (what == DELETED)
