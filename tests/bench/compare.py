"""Throughput: the peers empty the same pre-filled topic, one process each, one after the other, round by round."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from .kafka_topics import EndOffsets, create_topic, fill
from .peer import ONCE, OURS, RUN_PREFIX, STOCK, Peer, Preparation, Site, apply_topics
from .verify import verify
from .watch import cpu_s_per_100k, rate_per_s, watch
from .workload import INPUT_TOPIC, Workload

STALL_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Result:
    """One run. Rates are outputs (applied events) a second, from 5 % to 100 % of them and from the process's start."""

    peer: str
    outputs: int
    rate_per_s: float
    rate_from_start_per_s: float
    cpu_s_per_100k: float
    rss_peak_mib: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """All runs of a comparison and how they were made."""

    events: int
    applied: int
    stock_events: int
    partitions: int
    rounds: int
    results: list[Result]

    def median_of(self, peer: str, measure: str) -> float:
        """Median of one measure over a peer's rounds."""
        return float(median(getattr(result, measure) for result in self.results if result.peer == peer))

    def ratio(self, peer: str) -> float | None:
        """How many times a peer's rate ours is: median of the rounds' ratios, None without ours."""
        ours = [result.rate_per_s for result in self.results if result.peer == OURS.name]
        theirs = [result.rate_per_s for result in self.results if result.peer == peer]
        return median(a / b for a, b in zip(ours, theirs, strict=True)) if ours else None

    @property
    def peers(self) -> list[str]:
        """Names of the compared peers, in the order of the runs."""
        return list(dict.fromkeys(result.peer for result in self.results))

    def as_json(self) -> dict[str, Any]:
        """A JSON document with every run and the medians."""
        measures = ("rate_per_s", "rate_from_start_per_s", "cpu_s_per_100k", "rss_peak_mib")
        medians: dict[str, dict[str, float | None]] = {
            peer: {
                **{measure: self.median_of(peer, measure) for measure in measures},
                "ours_over_peer": self.ratio(peer),
            }
            for peer in self.peers
        }
        return {"benchmark": "compare", **asdict(self), "medians": medians}


async def compare(
    site: Site, peers: Sequence[Peer], workload: Workload, *, stock_events: int, rounds: int, say: Callable[[str], None]
) -> Comparison:
    """Fill the input topic, then run every peer `rounds` times, in turns. `say` hears of progress."""
    say(f"writing {workload.events:,} events to {INPUT_TOPIC}")
    if any(peer.ours for peer in peers):
        await apply_topics(site, f"{RUN_PREFIX}fill")
    await create_topic(site.bootstrap, INPUT_TOPIC, site.partitions)
    await fill(site.bootstrap, INPUT_TOPIC, workload.comments(), site.partitions)
    results = []
    for number in range(1, rounds + 1):
        for peer in peers:
            target = min(workload.applied, stock_events) if peer is STOCK else workload.applied
            say(f"round {number} of {rounds}: {peer.title}, {target:,} outputs")
            result = await run(site, peer, workload, target)
            say(f"  {result.rate_per_s:,.0f} events/s")
            results.append(result)
    return Comparison(workload.events, workload.applied, stock_events, site.partitions, rounds, results)


async def run(site: Site, peer: Peer, workload: Workload, target: int) -> Result:
    """One run from start to the target, judged by `verify`. A target below the workload's stops the peer early.

    End offsets count the markers of transactions too: of exactly_once about one in a thousand "outputs" is one.
    """
    async with Preparation(peer, site) as prepared, EndOffsets(site.bootstrap, prepared.output_topic) as ends:
        begin = await ends.by_partition()
        started_s = time.monotonic()
        with prepared.process as process:
            baseline = sum(begin.values())
            curve = await watch(
                process, ends, baseline=baseline, target=target, started_s=started_s, timeout_s=STALL_TIMEOUT_S
            )
            if peer is ONCE:
                await ends.settle()
        end = await ends.by_partition()
        outputs = await verify(site.bootstrap, begin, end, workload.applied_by_user, whole=target == workload.applied)
    steady = curve.steady(target)
    return Result(
        peer=peer.name,
        outputs=outputs,
        rate_per_s=rate_per_s(steady),
        rate_from_start_per_s=target / curve.wall_s(target),
        cpu_s_per_100k=cpu_s_per_100k(steady),
        rss_peak_mib=curve.rss_peak_bytes / 2**20,
    )
