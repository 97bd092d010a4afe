"""Progress seen from outside: a curve of outputs and CPU over time, and the rates that are read off it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from .kafka_topics import EndOffsets
from .process import PeerProcess

SAMPLE_INTERVAL_S = 0.025
WINDOW_START = (
    0.05  # the steady rate leaves the first 5 % of the outputs out: connecting, joining the group, first imports
)


@dataclass(frozen=True, slots=True)
class Sample:
    """At `at_s` (monotonic clock) the topic had `outputs` new records and the process had used `cpu_s`."""

    at_s: float
    outputs: int
    cpu_s: float


@dataclass(slots=True)
class Curve:
    """Samples of one run, in order of time; `started_s` is when the process was started."""

    started_s: float
    samples: list[Sample] = field(default_factory=list)
    rss_peak_bytes: int = 0

    def window(self, first: int, last: int) -> tuple[Sample, Sample]:
        """The first samples with at least `first` and `last` outputs. Raise RuntimeError when they are the same one."""
        begin = next(sample for sample in self.samples if sample.outputs >= first)
        end = next(sample for sample in self.samples if sample.outputs >= last)
        if begin is end:
            raise RuntimeError(f"outputs {first} to {last} came within one sample: measure more events")
        return begin, end

    def steady(self, target: int) -> tuple[Sample, Sample]:
        """The window from 5 % of the target to all of it."""
        return self.window(max(1, int(target * WINDOW_START)), target)

    def wall_s(self, target: int) -> float:
        """Seconds from the start of the process until the target was reached."""
        return next(sample for sample in self.samples if sample.outputs >= target).at_s - self.started_s


def rate_per_s(window: tuple[Sample, Sample]) -> float:
    """Outputs per second in a window."""
    begin, end = window
    return (end.outputs - begin.outputs) / (end.at_s - begin.at_s)


def cpu_s_per_100k(window: tuple[Sample, Sample]) -> float:
    """CPU seconds per 100,000 outputs in a window."""
    begin, end = window
    return (end.cpu_s - begin.cpu_s) / (end.outputs - begin.outputs) * 100_000


async def watch(
    process: PeerProcess, ends: EndOffsets, *, baseline: int, target: int, started_s: float, timeout_s: float
) -> Curve:
    """Sample until `target` new records are in the topic.

    Raise RuntimeError when the process ends, TimeoutError when the number of outputs stands still for `timeout_s`.
    """
    curve = Curve(started_s)
    outputs, progress_s = 0, time.monotonic()
    while outputs < target:
        process.check_running()
        seen = await ends.total() - baseline
        now_s, usage = time.monotonic(), process.usage()
        if seen != outputs:
            outputs, progress_s = seen, now_s
        elif now_s - progress_s > timeout_s:
            raise TimeoutError(f"{outputs} of {target} outputs, then none for {timeout_s:g} s:\n{process.log_tail()}")
        curve.samples.append(Sample(now_s, outputs, usage.cpu_s))
        curve.rss_peak_bytes = usage.rss_peak_bytes
        await asyncio.sleep(SAMPLE_INTERVAL_S)
    return curve
