"""A backlog of many times the memory limit: the process grows neither while it builds up nor while it drains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.behaviour.commandline import ROOT

MIB = 1 << 20
BACKLOG_BYTES, GROWTH_MAX_BYTES = 300 * MIB, 150 * MIB

PROCESS = f"""
import asyncio, os, sys
from pathlib import Path
from pipeline.producer import BufferFull, Limits, ReliableProducer
from pipeline.producer.link import Sent

PAYLOAD = os.urandom(8_000)
COUNT = {BACKLOG_BYTES} // len(PAYLOAD)

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

class Counting:
    back = asyncio.Event()
    sent = 0
    async def partitions(self, topic): return 1
    async def refresh(self): pass
    async def close(self): pass
    async def send(self, topic, partition, messages, at_ms=None):
        await self.back.wait()
        self.sent += len(messages)
        return Sent(self.sent - len(messages), len(messages))

async def main(spill):
    link = Counting()
    limits = Limits(memory_bytes=8 << 20, disk_free_bytes_min=0)
    async with ReliableProducer({{}}, spill=spill, durable=True, limits=limits, link=link) as producer:
        await producer.produce("letters", 0, b"first").accepted()
        before = peak()
        kept = []
        while len(kept) < COUNT:
            try:
                kept.append(producer.produce("letters", 0, os.urandom(4_000) * 2))
            except BufferFull:
                await kept[-1].accepted()
        await kept[-1].accepted()
        assert producer.load().disk_messages == COUNT + 1
        print(peak() - before, flush=True)
        link.back.set()
        await producer.drained()
        assert kept[-1].place == ("letters", 0, COUNT)
        print(peak() - before, flush=True)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_backlog_of_many_times_the_limit_does_not_make_the_process_grow(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROCESS, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    grown = [int(line) for line in ran.stdout.split()]
    assert len(grown) == 2
    assert max(grown) < GROWTH_MAX_BYTES
