"""The reliable producer on three brokers: leaders move, brokers are killed, the process is killed twice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.producer.spill import Spill
from tests.kafka.cluster import KafkaCluster
from tests.kafka.sizes import PRODUCER_MESSAGES, PRODUCER_RATE
from tests.kafka.waiting import answered, until
from tests.oracle.truth import read
from tests.producer.writer import WINDOW

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]
LIFE = 10_000_000
"""Numbers of messages from one life of the process to the next."""
RSS_GROWTH_MAX_BYTES = 128 << 20


async def test_brokers_die_leaders_move_the_process_is_killed_twice_and_nothing_accepted_is_missing(
    kafka3: KafkaCluster, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    topic, messages = "custody", PRODUCER_MESSAGES()
    await asyncio.to_thread(kafka3.create_topics, {topic: 3})
    (tmp_path / "spill").mkdir()
    journal = tmp_path / "accepted"
    journal.touch()

    def accepted() -> list[int]:
        return [int(line) for line in journal.read_text().split("\n")[:-1]]

    async def more(count: int) -> None:
        goal = len(accepted()) + count
        await until(lambda: len(accepted()) >= goal, 300, f"{count} more are accepted")

    async def moved(partition: int, before: int) -> bool:
        leader = await answered(lambda: asyncio.to_thread(kafka3.leader, topic, partition), 60)
        return leader not in (before, -1)

    def start(life: int, count: int) -> subprocess.Popen[str]:
        arguments = [kafka3.bootstrap, topic, str(tmp_path), str(life * LIFE), str(count), str(PRODUCER_RATE())]
        with (tmp_path / "log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.producer.writer", *arguments],
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip

    part, grown = messages // 12, list[int]()
    for life in range(2):
        process = start(life, LIFE)
        await more(1)
        before = _rss_peak_bytes(process.pid)
        await more(part)
        leader = await asyncio.to_thread(kafka3.leader, topic, life)
        await asyncio.to_thread(kafka3.kill_broker, leader)
        await more(part)
        await until(lambda of=(life, leader): moved(*of), 60, "the partition has another leader")
        grown.append(_rss_peak_bytes(process.pid) - before)
        process.kill()
        process.communicate()
        await asyncio.to_thread(kafka3.start_broker, leader)
    process = start(2, max(4 * part, messages - len(accepted())))
    await more(1)
    before = _rss_peak_bytes(process.pid)
    await more(part)
    for node in kafka3.nodes:
        await asyncio.to_thread(kafka3.kill_broker, node)
    await more(part)
    grown.append(_rss_peak_bytes(process.pid) - before)
    await asyncio.gather(*(asyncio.to_thread(kafka3._spawn, node) for node in kafka3.nodes))
    out, _ = await asyncio.to_thread(process.communicate, timeout=600)
    assert out == "ready\naccepted\ndrained\n", (tmp_path / "log").read_text()[-3000:]
    spill = Spill(tmp_path / "spill", 0)
    assert list(spill.scan()) == [], "no message is left on the disk"
    assert list(spill.undelivered()) == []
    spill.close()
    await asyncio.to_thread(kafka3.wait_in_sync)
    found: set[int] = set()
    records_read = 0
    for partition, records in (await read(kafka3.bootstrap, [topic]))[topic].items():
        numbers = list(dict.fromkeys(int(record.value or b"") for record in records))
        assert numbers == sorted(numbers), f"first occurrences of partition {partition} are in order"
        found.update(numbers)
        records_read += len(records)
    taken = set(accepted())
    assert len(taken) >= messages
    assert taken - found == set(), "what was accepted is in the topic"
    assert len(found - taken) <= 2 * WINDOW, "besides only what was being accepted when the process was killed"
    assert all(number < 2 * LIFE for number in found - taken)
    assert max(grown) < RSS_GROWTH_MAX_BYTES
    record_property(
        "soak",
        f"{len(taken):,} accepted, 0 of them missing, {len(found - taken):,} in the topic and not accepted (in flight "
        f"at a kill), {records_read:,} records in order, 0 left on the disk; "
        f"the process grew by {max(grown) / 1e6:.1f} MB at most",
    )


def _rss_peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
