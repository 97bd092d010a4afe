"""The only broker is killed under load and comes back: how soon the workers go on, which nobody restarts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tests.kafka import requests
from tests.kafka.feed import Feed
from tests.kafka.trial import Trial
from tests.oracle.generator import Mix, generate
from tests.oracle.journal import Journal
from tests.oracle.records import SOURCES

WITHOUT_END = 10**9
USERS = 2_000
POLL_S = 0.1
LAG_ZERO_WITHIN_S = 300.0


@dataclass(frozen=True, slots=True)
class Outage:
    """Seconds count from when the broker served again.

    lag: the first one that it told. moves_s: until an offset was committed; falls_s: until the lag was smaller than
    `lag`, whatever was written meanwhile; lag_zero_s: until it was 0. written_after: events of the producer's since.
    """

    partitions: int
    guarantee: str
    seconds: float
    rate: float
    lag: int
    moves_s: float
    falls_s: float
    lag_zero_s: float
    written_after: int
    verdict: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """A JSON document."""
        return {"benchmark": "outage", **asdict(self)}


async def outage(
    trial: Trial, *, seconds: float, backlog: int, rate: float, guarantee: str, seed: int, say: Callable[[str], None]
) -> Outage:
    """Kill the broker while `backlog` events wait and more come, start it `seconds` later; then the judge's verdict."""
    one, two = trial.worker("one"), trial.worker("two")
    await trial.start(one, two)
    await trial.shared(one, two)
    pids = one.process.pid, two.process.pid
    journal = Journal(seed)
    feed = Feed(trial, seed + 1, rate, Mix(events=WITHOUT_END, users=USERS))
    feed.journal = journal
    async with feed:
        await feed.more(1_000)
        await trial.write(generate(seed, Mix(events=backlog, users=USERS)), journal)
        await asyncio.to_thread(trial.cluster.kill_broker, 1)
        say(f"the broker is away for {seconds:g} s")
        await asyncio.sleep(seconds)
        await asyncio.to_thread(trial.cluster.start_broker, 1)
        back_at, written = time.monotonic(), journal.acked
        lag, moves_s, falls_s, zero_s = await _watch(trial, back_at, feed)
        say(f"lag {lag:,}: moves after {moves_s:.1f} s, falls after {falls_s:.1f} s, 0 after {zero_s:.1f} s")
        written_after = journal.acked - written
    if (one.process.pid, two.process.pid) != pids or not (one.alive and two.alive):
        raise RuntimeError("a worker ended while the broker was away")
    report = await trial.verdict(journal)
    return Outage(
        partitions=trial.partitions,
        guarantee=guarantee,
        seconds=seconds,
        rate=rate,
        lag=lag,
        moves_s=moves_s,
        falls_s=falls_s,
        lag_zero_s=zero_s,
        written_after=written_after,
        verdict=dict(report.figures),
    )


async def _watch(trial: Trial, back_at: float, feed: Feed) -> tuple[int, float, float, float]:
    """The first lag, and the seconds since `back_at` until commits moved, the lag fell, and it was 0."""
    first: tuple[int, int] | None = None
    moves_s = falls_s = 0.0
    while time.monotonic() - back_at < LAG_ZERO_WITHIN_S:
        try:
            async with _progress(trial) as ask:
                while time.monotonic() - back_at < LAG_ZERO_WITHIN_S:
                    done, end = await ask()
                    now_s = time.monotonic() - back_at
                    first = first or (done, end - done)
                    if done > first[0]:
                        moves_s = moves_s or now_s
                    if end - done < first[1]:
                        falls_s = falls_s or now_s
                    if falls_s and feed.flowing:
                        await feed.end()
                    if done == end:
                        return first[1], moves_s, falls_s, now_s
                    await asyncio.sleep(POLL_S)
        except (KafkaError, OSError):
            await asyncio.sleep(POLL_S)
    raise TimeoutError(f"lag not 0 within {LAG_ZERO_WITHIN_S:.0f} s after the broker's return")


@asynccontextmanager
async def _progress(trial: Trial) -> AsyncIterator[Callable[[], Awaitable[tuple[int, int]]]]:
    """Asks for the sums of the committed and of the end offsets, over the same connections."""
    bootstrap = trial.cluster.bootstrap
    sources = [TopicPartition(topic, number) for topic in SOURCES for number in range(trial.partitions)]
    async with requests.admin(bootstrap) as admin, AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:

        async def ask() -> tuple[int, int]:
            committed = await admin.list_consumer_group_offsets(trial.app_id)
            ends = await consumer.end_offsets(sources)
            return sum(max(committed[tp].offset, 0) for tp in sources if tp in committed), sum(ends.values())

        yield ask
