"""Disks that fail for real: full, denied, turned read-only; named with path and errno, and nothing accepted is lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.producer import BufferFull, Limits, ReliableProducer
from tests.behaviour.commandline import ROOT
from tests.kafka.waiting import until
from tests.producer.scripted import Cluster, ScriptedLink

NOBODY = 65534
MIB = 1 << 20

# Root may write everywhere, and the interpreter may be unreadable to anybody else: load everything, then change.
AS_NOBODY = f"""
import asyncio, os, pickle, sys
from pathlib import Path
from pipeline.producer import Limits, ReliableProducer, SpillUnusable
from tests.producer.scripted import Cluster, ScriptedLink
import pipeline.producer.spill, rocksdict
if os.geteuid() == 0:
    os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})

async def main(spill):
    cluster = Cluster({{"letters": 1}})
    cluster.go_away()
    told = asyncio.Event()
    limits = Limits(disk_free_bytes_min=0)
    tell = lambda error: told.set() if error else None
    link = ScriptedLink(cluster)
    producer = ReliableProducer(
        {{}}, spill=spill, durable=True, link=link, check_s=0.05, limits=limits, on_trouble=tell
    )
    try:
        await producer.start()
    except SpillUnusable as error:
        print("refused", error.errno, error, flush=True)
        return
    await producer.produce("letters", 0, b"1").accepted()
    print("accepted", flush=True)
    await asyncio.wait_for(told.wait(), 60)
    print("trouble", producer.trouble().errno, producer.trouble(), flush=True)
    cluster.come_back()
    await producer.drained()
    print(cluster.logs["letters", 0], flush=True)

asyncio.run(main(Path(sys.argv[1])))
"""


def as_nobody(spill: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", AS_NOBODY, str(spill)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_directory_that_this_user_cannot_write_is_refused_at_the_start(open_place: Path) -> None:
    denied = open_place / "denied"
    denied.mkdir(mode=0o555)
    out, _ = as_nobody(denied).communicate(timeout=60)
    assert out.startswith("refused 13 ")
    assert f"{denied}/.probe-" in out
    assert "Permission denied (errno 13)" in out


def test_a_directory_that_is_denied_later_is_told_and_what_was_accepted_arrives(open_place: Path) -> None:
    spill = open_place / "spill"
    spill.mkdir()
    os.chown(spill, NOBODY, NOBODY) if os.geteuid() == 0 else None
    process = as_nobody(spill)
    assert process.stdout is not None
    assert process.stdout.readline() == "accepted\n"
    spill.chmod(0o555)
    out, _ = process.communicate(timeout=90)
    assert out.startswith("trouble 13 ")
    assert str(spill) in out
    assert "[b'1']" in out


Mounted = Callable[[int], Path]


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Mounted]:
    mounted: list[Path] = []

    def mount(size_mib: int) -> Path:
        where = tmp_path / "tmpfs"
        if mounted:
            resize(where, f"size={size_mib}m")
            return where
        where.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(where)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a small tmpfs can't be mounted here: root is needed")
        mounted.append(where)
        return where

    yield mount
    for where in mounted:
        subprocess.run(["umount", "-l", str(where)], check=True)


def resize(where: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(where)], check=True)


@pytest.mark.parametrize(("size_mib", "reserve_mib"), [(150, 64), (30, 0)], ids=["with a reserve", "to the last byte"])
async def test_a_full_disk_refuses_at_the_cap_and_loses_nothing_that_was_accepted(
    tmpfs: Mounted, size_mib: int, reserve_mib: int
) -> None:
    cluster = Cluster({"letters": 1})
    cluster.go_away()
    limits = Limits(memory_bytes=10 * MIB, disk_free_bytes_min=reserve_mib * MIB)
    directory = tmpfs(size_mib)
    async with ReliableProducer(
        {}, spill=directory, durable=True, link=ScriptedLink(cluster), linger_s=0, check_s=0.05, limits=limits
    ) as producer:
        sent = []
        refused = False
        while not refused:
            try:
                delivery = producer.produce("letters", 0, b"%06d" % len(sent) + os.urandom(100_000))
                sent.append(delivery)
                accepted = asyncio.ensure_future(delivery.accepted())
                failed = asyncio.ensure_future(until(producer.trouble, 60, "trouble"))
                await asyncio.wait([accepted, failed], return_when=asyncio.FIRST_COMPLETED)
                for task in (accepted, failed):
                    task.cancel()
            except BufferFull:
                refused = True
        trouble = producer.trouble()
        assert trouble is not None
        assert trouble.errno == 28
        assert str(directory) in str(trouble)
        certain = [number for number, delivery in enumerate(sent) if delivery.is_accepted]
        assert len(certain) > 50
        if reserve_mib:
            cluster.come_back()
            await asyncio.wait_for(producer.drained(), 60)  # which gives the room back
        else:
            tmpfs(size_mib + 100)  # RocksDB itself can't go on
        await until(lambda: producer.trouble() is None, 60, "the disk works again")
        cluster.come_back()
        await asyncio.wait_for(producer.produce("letters", 0, b"%06d" % len(sent)).accepted(), 60)
    numbers = [int((value or b"")[:6]) for value in cluster.logs["letters", 0]]
    assert numbers == list(range(len(sent) + 1))
