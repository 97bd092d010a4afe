"""One run of hostile records through a real worker process, the oracle's verdict, and what it took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from aiokafka import AIOKafkaProducer

from tests.hostile.heavy import bombs, swarm
from tests.hostile.pulse import Pulse
from tests.hostile.shapes import USER, Shape
from tests.hostile.stream import good, hostile, is_hostile
from tests.kafka import pages
from tests.kafka.sizes import HOSTILE
from tests.kafka.sizes import seed as chosen_seed
from tests.oracle.generator import Made
from tests.oracle.judge import judge
from tests.oracle.lag import wait_for_lag_zero
from tests.oracle.process import Worker
from tests.oracle.records import SOURCES, USER_EVENTS, partition_of
from tests.oracle.report import Report
from tests.oracle.writer import write

STALL_MAX_S = 1.0
STALL_LOADED_MAX_S = 10.0
"""For the short run, which shares its machine with other tests."""


@dataclass
class Figures:
    """What a run was and took.

    stall_s: upper bound of how late the worker's event loop ever was, by its own metric. answer_s: the longest that
    `/health/live` took, which needs several turns of the loop.
    """

    hostile: int
    good: int
    megabytes: float
    seconds: float
    stall_s: float
    answer_s: float
    asked: int

    def __str__(self) -> str:
        return (
            f"{self.hostile} hostile and {self.good} good records, {self.megabytes:.0f} MB unpacked, in "
            f"{self.seconds:.1f} s; the event loop was never later than {self.stall_s} s; the slowest of {self.asked} "
            f"answers of /health/live took {self.answer_s:.2f} s"
        )


async def run(bootstrap: str, app_id: str, worker: Worker, partitions: int) -> Figures:
    """Send all of it to a worker that is ready, wait until it is through, judge, compare, and stop the worker."""
    seed = chosen_seed()
    made = list(hostile(HOSTILE(), seed))
    heavy = [_made(shape) for shape in (*bombs(), *swarm())]
    pid, began = worker.process.pid, time.monotonic()
    async with Pulse(worker.web_port) as pulse:
        half = len(made) // 2
        journal = await write(bootstrap, made[:half], partitions, seed=seed)
        await _compressed(bootstrap, _mixed(heavy, seed), partition_of(USER.encode(), partitions))
        await write(bootstrap, made[half:], partitions, journal=journal)
        await wait_for_lag_zero(bootstrap, app_id, SOURCES, 120 + len(made) / 100)
    seconds = time.monotonic() - began
    assert (worker.alive, worker.process.pid) == (True, pid)
    stall_s = await _longest_stall(worker)
    assert worker.stop() == 0
    report = await judge(bootstrap, app_id, journal=journal, audit=True)
    print(report)
    assert report.ok, str(report)
    bad = sum(is_hostile(one) for one in (*made, *heavy))
    fine = len(made) + 2 * len(heavy) - bad
    _require_each_once(report, bad, fine)
    figures = Figures(bad, fine, _megabytes((*made, *heavy)), seconds, stall_s, pulse.longest_s, pulse.asked)
    print(figures)
    assert pulse.failed == 0
    assert stall_s <= (STALL_MAX_S if HOSTILE() > HOSTILE.short else STALL_LOADED_MAX_S), figures
    _require_harmless_log(worker)
    return figures


async def _longest_stall(worker: Worker) -> float:
    """The smallest bucket of the histogram that holds every sample."""
    counts = await pages.buckets(worker, "hardparts_loop_stall_seconds")
    assert counts[float("inf")] > 0
    return min(bound for bound, count in counts.items() if count == counts[float("inf")])


def _require_each_once(report: Report, bad: int, fine: int) -> None:
    figures = report.figures
    assert figures["inputs"] == bad + fine
    assert figures["error records"] == bad
    assert figures["error records: physical duplicates"] == 0
    assert figures["error records: bounded"] > 0


def _require_harmless_log(worker: Worker) -> None:
    said = worker.log.read_text()
    assert "\x1b" not in said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("ready")]) == 1


def _made(shape: Shape) -> Made:
    return Made(USER_EVENTS, shape.key, shape.value, shape.headers, shape.kind)


def _mixed(heavy: Sequence[Made], seed: int) -> list[Made]:
    """After each of these a good event of the same user."""
    rng = Random(f"between the heavy ones of {seed}")
    return [one for bad in heavy for one in (bad, good(rng, USER))]


def _megabytes(made: Sequence[Made]) -> float:
    return sum(len(one.value or b"") for one in made) / 1e6


async def _compressed(bootstrap: str, made: Sequence[Made], partition: int) -> None:
    """In few record batches, as gzip packs them; the broker sees a thousandth of it."""
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", compression_type="gzip", max_request_size=1 << 30,
        max_batch_size=40 << 20, linger_ms=500, request_timeout_ms=120_000,
    ) as producer:  # fmt: skip
        sent = [await producer.send(one.topic, one.value, key=one.key, partition=partition) for one in made]
        for one in sent:
            await one
