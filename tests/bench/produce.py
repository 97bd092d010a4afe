"""The reliable producer beside bare aiokafka, in one process and one run: throughput, an outage, a drain."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from aiokafka import AIOKafkaProducer

from pipeline.producer import BufferFull, Limits, ReliableProducer
from tests.kafka.cluster import KafkaCluster
from tests.kafka.requests import create_topics

from .report import Sheet

BATCH_BYTES = 900_000
STEP_MESSAGES = 500
FSYNC_BYTES = 4_096
RATE_PER_S = 5_000
FULL_S = 0.05
FRESH = "bare send_batch, broker just started"
DRAIN = "drain after an outage, broker just started"


@dataclass(frozen=True, slots=True)
class Produced:
    """Messages a second by way of sending, and times in milliseconds while the broker was away."""

    messages: int
    payload_bytes: int
    partitions: int
    rounds: int
    outage_messages: int
    rates_per_s: dict[str, float]
    produce_p99_ms: float
    accepted_p99_ms: float
    fsync_p99_ms: float

    def as_json(self) -> dict[str, Any]:
        """A JSON document."""
        return {"benchmark": "produce", **asdict(self)}


async def produce(
    cluster: KafkaCluster,
    directory: Path,
    *,
    messages: int,
    payload_bytes: int,
    partitions: int,
    rounds: int,
    outage_s: float,
    say: Callable[[str], None],
) -> Produced:
    """Each way in turns, `rounds` times; medians. Then as many outages with 5,000 messages a second.

    After each outage the broker is started once more and bare `send_batch` sends as many messages: a broker that has
    just started is slow, also for others.
    """
    payload = os.urandom(payload_bytes // 2).hex().encode()
    rates: dict[str, list[float]] = {}
    for number in range(rounds):
        for name, way in WAYS.items():
            topic = f"bench-{name.replace(' ', '-').replace(',', '')}-{number}"
            await create_topics(cluster.bootstrap, {topic: partitions}, 1, {})
            took_s = await way(cluster.bootstrap, directory, topic, partitions, messages, payload)
            rates.setdefault(name, []).append(messages / took_s)
            say(f"round {number + 1} of {rounds}: {name}: {messages / took_s:,.0f} messages/s")
    outages = []
    count = int(outage_s * RATE_PER_S)
    for number in range(rounds):
        outages.append(await _outage(cluster, directory, partitions, count, payload, number))
        say(f"round {number + 1} of {rounds}: outage: {outages[-1]}")
    found = {name: median(values) for name, values in rates.items()}
    found[FRESH] = median(outage["bare_per_s"] for outage in outages)
    found[DRAIN] = median(outage["drain_per_s"] for outage in outages)
    p99 = {key: median(outage[key] for outage in outages) for key in ("produce_ms", "accepted_ms", "fsync_ms")}
    return Produced(
        messages, len(payload), partitions, rounds, count, found,
        p99["produce_ms"], p99["accepted_ms"], p99["fsync_ms"],
    )  # fmt: skip


async def _bare_batches(bootstrap: str, _: Path, topic: str, partitions: int, messages: int, payload: bytes) -> float:
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES
    ) as producer:
        await producer.partitions_for(topic)
        began = time.perf_counter()

        async def fill(partition: int) -> None:
            left = messages // partitions
            while left:
                batch = producer.create_batch()
                while left and batch.append(timestamp=None, key=None, value=payload, headers=[]) is not None:
                    left -= 1
                await (await producer.send_batch(batch, topic, partition=partition))

        await asyncio.gather(*(fill(partition) for partition in range(partitions)))
        return time.perf_counter() - began


async def _bare_send(bootstrap: str, _: Path, topic: str, partitions: int, messages: int, payload: bytes) -> float:
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES, linger_ms=5
    ) as producer:
        await producer.partitions_for(topic)
        began = time.perf_counter()
        sent = [await producer.send(topic, payload, partition=number % partitions) for number in range(messages)]
        await asyncio.gather(*sent)
        return time.perf_counter() - began


def _ours(*, durable: bool) -> Callable[..., Awaitable[float]]:
    async def way(bootstrap: str, directory: Path, topic: str, partitions: int, messages: int, payload: bytes) -> float:
        spill = directory / topic
        spill.mkdir()
        limits = Limits(memory_messages=messages * 4, memory_bytes=1 << 30)
        options = {"bootstrap_servers": bootstrap}
        async with ReliableProducer(options, spill=spill, durable=durable, limits=limits) as producer:
            await producer.request_metadata(topic)
            began = time.perf_counter()
            sent = []
            for number in range(messages):
                sent.append(producer.produce(topic, number % partitions, payload))
                if not number % STEP_MESSAGES:
                    await asyncio.sleep(0)
            await producer.drained()
            took_s = time.perf_counter() - began
            assert all(delivery.place is not None for delivery in sent)
            return took_s

    return way


WAYS: dict[str, Callable[..., Awaitable[float]]] = {
    "bare send_batch": _bare_batches,
    "bare send": _bare_send,
    "ours": _ours(durable=False),
    "ours, durable": _ours(durable=True),
}


async def _outage(
    cluster: KafkaCluster, directory: Path, partitions: int, count: int, payload: bytes, number: int
) -> dict[str, float]:
    """The broker is killed; messages come at 5,000 a second; it comes back."""
    topic = f"bench-outage-{number}"
    spill = directory / topic
    spill.mkdir()
    await create_topics(cluster.bootstrap, {topic: partitions}, 1, {})
    options = {"bootstrap_servers": cluster.bootstrap}
    calls: list[float] = []
    accepted: list[float] = []
    async with ReliableProducer(options, spill=spill, durable=True, limits=Limits(memory_messages=20_000)) as producer:
        await producer.produce(topic, 0, payload)
        await asyncio.to_thread(cluster.kill_broker, 1)
        waiting: set[asyncio.Task[None]] = set()

        async def one(at: int) -> None:
            began = time.perf_counter()
            while True:
                called = time.perf_counter()
                try:
                    delivery = producer.produce(topic, at % partitions, payload)
                except BufferFull:  # the disk stalls for seconds
                    await asyncio.sleep(FULL_S)
                    continue
                finally:
                    calls.append(time.perf_counter() - called)
                break
            await delivery.accepted()
            accepted.append(time.perf_counter() - began)

        began = time.perf_counter()
        for at in range(count):
            task = asyncio.create_task(one(at))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            if not at % 25:
                await asyncio.sleep(max(0.0, began + at / RATE_PER_S - time.perf_counter()))
        await asyncio.gather(*waiting)
        fsync = await asyncio.to_thread(_fsyncs, directory / f"fsync-{number}")
        await asyncio.to_thread(cluster.start_broker, 1)
        before, began = producer.load().messages, time.perf_counter()
        await producer.drained()
        drain = before / (time.perf_counter() - began)
    await create_topics(cluster.bootstrap, {f"{topic}-bare": partitions}, 1, {})
    await asyncio.to_thread(cluster.kill_broker, 1)
    await asyncio.to_thread(cluster.start_broker, 1)
    bare_s = await _bare_batches(cluster.bootstrap, directory, f"{topic}-bare", partitions, count, payload)
    return {
        "produce_ms": _p99(calls) * 1000,
        "accepted_ms": _p99(accepted) * 1000,
        "fsync_ms": _p99(fsync) * 1000,
        "drain_per_s": drain,
        "bare_per_s": count / bare_s,
    }


def _fsyncs(path: Path) -> list[float]:
    took = []
    with path.open("wb") as file:
        for _ in range(200):
            file.write(b"x" * FSYNC_BYTES)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return took


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def produce_sheet(produced: Produced) -> Sheet:
    """A row a way of sending."""
    bare = produced.rates_per_s["bare send_batch"]
    fresh = produced.rates_per_s[FRESH]
    rows = [
        (name, f"{rate:,.0f}", f"{rate / (fresh if name == DRAIN else bare):.2f}")
        for name, rate in produced.rates_per_s.items()
    ]
    title = (
        f"{produced.messages:,} messages of {produced.payload_bytes} bytes, {produced.partitions} partitions, "
        f"one process, median of {produced.rounds}; broker away, "
        f"{produced.outage_messages:,} messages at {RATE_PER_S:,}/s: produce p99 {produced.produce_p99_ms:.3f} ms, "
        f"accepted (fsynced) p99 {produced.accepted_p99_ms:.1f} ms, a bare fsync p99 {produced.fsync_p99_ms:.1f} ms; "
        "the drain is compared with send_batch to a broker that has just started"
    )
    return Sheet(title, ("way", "confirmed/s", "÷ send_batch"), rows)
