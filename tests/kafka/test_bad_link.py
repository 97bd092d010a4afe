"""The link between workers and broker is slow, cut in mid-batch, or silent: it costs time, and nothing else."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from tests.kafka import requests, sizes
from tests.kafka.feed import Feed
from tests.kafka.links import BOTH, LinkedCluster
from tests.kafka.trial import GUARANTEES, Trial
from tests.kafka.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]  # the first run compiles the link
LATENCY_MS, JITTER_MS, KILOBYTES_S = 60, 40, 300
RATE = 400
ROUNDS, CUT_CONNECTIONS = 2, 4
SILENT_S = 12.0
"""Four sessions, and longer than a produce request waits for its answer."""


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_link_that_is_slow_then_cut_again_and_again_then_silent(
    linked: LinkedCluster, tmp_path: Path, guarantee: str
) -> None:
    seed = sizes.seed()
    rng, link = random.Random(seed), linked.link
    async with Trial(linked, tmp_path, broker=linked.far, processing_guarantee=guarantee) as trial:
        workers = trial.worker("one"), trial.worker("two")
        await trial.start(*workers)
        await trial.shared(*workers)
        async with Feed(trial, seed, rate=RATE) as feed:
            await feed.more(RATE)

            link.slow(LATENCY_MS, JITTER_MS, KILOBYTES_S)
            began = time.monotonic()
            await requests.brokers(linked.far)
            assert time.monotonic() - began > 2 * (LATENCY_MS - JITTER_MS) / 1000
            await goes_on(trial, RATE)
            link.well()

            for _ in range(ROUNDS):
                for stream in BOTH:
                    link.cut_after(stream, rng.randint(2_000, 60_000))
                    await reconnected(linked)
                    link.well()
                    await goes_on(trial, RATE / 4)
                link.reset_after(rng.randint(20, 400))
                await reconnected(linked)
                link.well()
                await goes_on(trial, RATE / 4)

            link.silent()
            await asyncio.sleep(SILENT_S / 2)  # what had reached the broker is committed by then
            done = await committed(trial)
            await asyncio.sleep(SILENT_S / 2)
            assert await committed(trial) == done
            assert feed.flowing
            link.well()
            await goes_on(trial, RATE)
            journal = await feed.end()
        assert all(worker.alive for worker in workers)
        await trial.verdict(journal)


async def reconnected(linked: LinkedCluster) -> None:
    """Wait until connections were cut: others have been made in their place."""
    before = linked.link.connections()
    await until(lambda: linked.link.connections() >= before + CUT_CONNECTIONS, 60, "connections were cut")


async def goes_on(trial: Trial, records: float) -> None:
    """Wait until the workers have committed so many more."""
    await trial.committed_more_than(await committed(trial) + records, 90)


async def committed(trial: Trial) -> int:
    """The sum of the group's offsets."""
    return sum((await trial.committed()).values())
