"""End-to-end latency at a steady rate: from before an event is produced until its output has been consumed."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from math import ceil
from statistics import median
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from .kafka_topics import Partitioner, create_topic, delete_topics
from .peer import ECHO, ONCE, OURS, RUN_PREFIX, Peer, Preparation, Site, apply_topics
from .process import PeerProcess
from .workload import INPUT_TOPIC, new_comment

USERS = 10_000
WARM_UP_S = 5.0  # of the asked rate, after the first output has come and the backlog is gone; not measured
STALL_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of one run in milliseconds."""

    peer: str
    events: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Latencies:
    """All runs at one rate."""

    rate_per_s: float
    seconds: float
    rounds: int
    results: list[Latency]

    def median_of(self, peer: str, measure: str) -> float:
        """Median of one measure over a peer's rounds."""
        return float(median(getattr(result, measure) for result in self.results if result.peer == peer))

    def ratio(self, peer: str = OURS.name) -> float:
        """The p99 of ours, or of another peer, over the echo's."""
        return self.median_of(peer, "p99_ms") / self.median_of(ECHO.name, "p99_ms")

    def as_json(self) -> dict[str, Any]:
        """A JSON document with every run and the ratio of the p99s."""
        return {
            "benchmark": "latency",
            **asdict(self),
            "p99_over_echo": {name: self.ratio(name) for name in (OURS.name, ONCE.name)},
        }


@dataclass(slots=True)
class Flights:
    """Events under way. A user's outputs come in the order of the user's events: a queue per user finds each start."""

    started: defaultdict[int, deque[float]] = field(default_factory=lambda: defaultdict(deque))
    under_way: int = 0
    landed: int = 0
    latencies_s: list[float] = field(default_factory=list)
    measuring_from_s: float = float("inf")

    def start(self, user_id: int) -> None:
        """An event of this user is about to be produced."""
        self.started[user_id].append(time.monotonic())
        self.under_way += 1

    def land(self, user_id: int, now_s: float) -> None:
        """An output of this user was consumed."""
        if not self.started[user_id]:
            raise RuntimeError(f"more outputs than events of user {user_id}")
        started_s = self.started[user_id].popleft()
        self.under_way -= 1
        self.landed += 1
        if started_s >= self.measuring_from_s:
            self.latencies_s.append(now_s - started_s)


async def latency(
    site: Site, *, rate_per_s: float, seconds: float, rounds: int, say: Callable[[str], None]
) -> Latencies:
    """Measure the echo and ours with both guarantees in turns, each alone on the broker, `rounds` times."""
    results = []
    for number in range(1, rounds + 1):
        for peer in (ECHO, OURS, ONCE):
            say(f"round {number} of {rounds}: {peer.title} at {rate_per_s:,.0f} events/s for {seconds:g} s")
            results.append(await _run(site, peer, rate_per_s, seconds))
            say(f"  p50 {results[-1].p50_ms:.1f} ms, p99 {results[-1].p99_ms:.1f} ms")
    return Latencies(rate_per_s, seconds, rounds, results)


async def _run(site: Site, peer: Peer, rate_per_s: float, seconds: float) -> Latency:
    await delete_topics(site.bootstrap, names=[INPUT_TOPIC])
    if peer.ours:
        await apply_topics(site, f"{RUN_PREFIX}fill")
    await create_topic(site.bootstrap, INPUT_TOPIC, site.partitions)
    flights = Flights()
    async with Preparation(peer, site) as prepared:
        with prepared.process as process:
            receiving = asyncio.create_task(_receive(site, prepared.output_topic, flights))
            sending = asyncio.create_task(_send(site, flights, rate_per_s))
            measuring = asyncio.create_task(_measure(process, flights, rate_per_s, seconds))
            tasks = (measuring, receiving, sending)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            for error in ended:
                if isinstance(error, Exception):
                    raise error
    ordered = sorted(1000 * latency_s for latency_s in flights.latencies_s)
    return Latency(peer.name, len(ordered), _percentile(ordered, 0.5), _percentile(ordered, 0.99), ordered[-1])


async def _measure(process: PeerProcess, flights: Flights, rate_per_s: float, seconds: float) -> None:
    """Warm up, measure, and wait until every measured event has landed."""

    async def until(what: str, holds: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + STALL_TIMEOUT_S
        while not holds():
            process.check_running()
            if time.monotonic() > deadline_s:
                raise TimeoutError(
                    f"{what}: {flights.under_way} under way, {flights.landed} landed\n{process.log_tail()}"
                )
            await asyncio.sleep(0.05)

    await until("no output", lambda: flights.landed > 0)
    await until("the backlog of the start doesn't shrink", lambda: flights.under_way < rate_per_s / 10)
    await asyncio.sleep(WARM_UP_S)
    flights.measuring_from_s = time.monotonic()
    await asyncio.sleep(seconds)
    wanted = int(rate_per_s * seconds)
    await until("too few measured outputs", lambda: len(flights.latencies_s) >= wanted)


async def _send(site: Site, flights: Flights, rate_per_s: float) -> None:
    """Produce at a steady rate: what is due is sent at once, so that a late wake-up doesn't lower the rate."""
    rng, partition_of = random.Random(1), Partitioner(site.partitions)
    producer = AIOKafkaProducer(bootstrap_servers=site.bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        started_s, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - started_s) * rate_per_s)
            for _ in range(due - sent):
                comment = new_comment(rng, rng.randrange(USERS) + 1)
                flights.start(comment.user_id)
                partition = partition_of(comment.user_id)
                await producer.send(INPUT_TOPIC, key=comment.key, value=comment.value, partition=partition)
            sent = due
            await asyncio.sleep(1 / rate_per_s)
    finally:
        await producer.stop()


async def _receive(site: Site, output_topic: str, flights: Flights) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=site.bootstrap, isolation_level="read_committed")
    await consumer.start()
    try:
        partitions = [TopicPartition(output_topic, number) for number in range(site.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        while True:
            fetched = await consumer.getmany(timeout_ms=1000)
            now_s = time.monotonic()
            for records in fetched.values():
                for record in records:
                    flights.land(orjson.loads(record.value)["data"]["user_id"], now_s)
    finally:
        await consumer.stop()


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[ceil(share * len(ordered)) - 1]
