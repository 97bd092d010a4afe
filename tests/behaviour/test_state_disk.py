"""A disk that is full, read-only or denied: a worker ends and says where and why; nothing is lost once it is mended."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.place import Place
from tests.oracle.generator import Mix, generate
from tests.oracle.judge import judge
from tests.oracle.lag import wait_for_lag_zero
from tests.oracle.process import Worker, WorkerEnded
from tests.oracle.records import AGENT, SOURCES
from tests.oracle.views import unit_directories
from tests.oracle.writer import write

PARTITIONS = 2
DISK_BYTES = 16 << 20
LEFT_BYTES = 96 << 10
PERMISSIONS_COUNT = ("--bounding-set", "-dac_override,-dac_read_search,-fowner")
"""Without these even root is denied what the mode of a directory denies."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"a small file system can't be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def fill(disk: Path, left: int) -> Path:
    """A file that leaves so many bytes of the disk."""
    filler = disk / "filler"
    size = shutil.disk_usage(disk).free - left
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    assert shutil.disk_usage(disk).free <= left
    return filler


async def ended(worker: Worker) -> tuple[int, str]:
    """Status and last line of a worker that ends by itself."""
    code = await asyncio.to_thread(worker.process.wait, 60)
    assert worker._reader is not None
    await asyncio.to_thread(worker._reader.join, 10)
    return code, worker.log.read_text().splitlines()[-1]


async def started(place: Place) -> Worker:
    return await asyncio.to_thread(place.worker)


async def refused(place: Place) -> str:
    """What a worker said last that didn't become ready."""
    with pytest.raises(WorkerEnded, match=r"exited [12]:"):
        await started(place)
    return (await ended(place.workers[-1]))[1]


async def verdict(place: Place, worker: Worker, journal: object, data: Path) -> None:
    """Everything that was sent is applied once, on the disk, too."""
    await wait_for_lag_zero(place.bootstrap, place.app_id, SOURCES, 90)
    assert worker.stop() == 0
    disks = {"owner": unit_directories(data, "one")}
    assert set(disks["owner"]) == set(range(PARTITIONS))
    report = await judge(place.bootstrap, place.app_id, disks=disks, journal=journal, audit=True)
    assert report.ok, str(report)


async def test_a_disk_that_fills_up_ends_the_worker_and_with_room_it_goes_on(tmp_path: Path, disk: Path) -> None:
    records = generate(5, Mix(events=6_000, users=100))
    with Place(tmp_path, partitions=PARTITIONS, data_dir=str(disk)) as place:
        worker = await started(place)
        journal = await write(place.bootstrap, (next(records) for _ in range(2_000)), PARTITIONS)
        await wait_for_lag_zero(place.bootstrap, place.app_id, SOURCES, 60)
        filler = fill(disk, LEFT_BYTES)
        await write(place.bootstrap, records, PARTITIONS, journal=journal)
        code, last = await ended(worker)
        assert code == 1
        assert "stopped: StoreUnusable: " in last
        assert "No space left on device" in last
        assert str(disk / place.app_id / "one" / "tables" / AGENT) in last
        assert "errno 28" in last
        filler.unlink()
        await verdict(place, await started(place), journal, disk)


async def test_a_worker_on_a_full_disk_never_becomes_ready(tmp_path: Path, disk: Path) -> None:
    with Place(tmp_path, partitions=PARTITIONS, data_dir=str(disk)) as place:
        journal = await write(place.bootstrap, generate(6, Mix(events=1_000)), PARTITIONS)
        filler = fill(disk, 0)
        last = await refused(place)
        assert "No space left on device" in last
        assert "errno 28" in last
        assert str(disk / place.app_id / "one") in last
        filler.unlink()
        await verdict(place, await started(place), journal, disk)


async def test_a_disk_that_became_read_only_is_named_and_mended(tmp_path: Path, disk: Path) -> None:
    records = generate(7, Mix(events=2_000))
    with Place(tmp_path, partitions=PARTITIONS, data_dir=str(disk)) as place:
        worker = await started(place)
        journal = await write(place.bootstrap, (next(records) for _ in range(1_000)), PARTITIONS)
        await wait_for_lag_zero(place.bootstrap, place.app_id, SOURCES, 60)
        assert worker.stop() == 0
        remount(disk, "ro")
        await write(place.bootstrap, records, PARTITIONS, journal=journal)
        last = await refused(place)
        assert "Read-only file system" in last
        assert "errno 30" in last
        assert str(disk / place.app_id / "one") in last
        remount(disk, "rw")
        await verdict(place, await started(place), journal, disk)


@pytest.mark.parametrize("denied", ["", "one/tables/user-events/0"])
async def test_a_denied_directory_is_named_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, denied: str
) -> None:
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root is denied nothing, and there is no setpriv to take that away")
        monkeypatch.setattr(Worker, "before", ("setpriv", *PERMISSIONS_COUNT))
    data = tmp_path / "state"
    data.mkdir()
    records = generate(8, Mix(events=2_000))
    with Place(tmp_path, partitions=PARTITIONS, data_dir=str(data)) as place:
        journal = await write(place.bootstrap, (next(records) for _ in range(1_000)), PARTITIONS)
        if denied:
            worker = await started(place)
            await wait_for_lag_zero(place.bootstrap, place.app_id, SOURCES, 60)
            assert worker.stop() == 0
        there = data / place.app_id / denied if denied else data
        there.chmod(0o500)
        await write(place.bootstrap, records, PARTITIONS, journal=journal)
        last = await refused(place)
        assert "Permission denied" in last
        assert "errno 13" in last
        assert str(there) in last
        there.chmod(0o700)
        assert not list(data.glob("**/*.set-aside-*"))
        await verdict(place, await started(place), journal, data)
