"""Reads whole topics from the beginning to an end that is fixed at the start, by assignment: no group, no commits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Literal

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.oracle.records import Record

Isolation = Literal["read_uncommitted", "read_committed"]
FETCH_BYTES = 8 * 1024 * 1024
STALLED_S = 60.0


class TopicMissing(LookupError):
    """The broker knows no such topic."""


async def stream(
    bootstrap: str, topics: Iterable[str], isolation: Isolation = "read_uncommitted"
) -> AsyncIterator[list[Record]]:
    """Chunks of consecutive records of one partition, each partition in order, up to the end offsets of now.

    Raises TopicMissing, and TimeoutError when nothing moves for a minute.
    """
    assigned = await partitions(bootstrap, topics)
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level=isolation,
        fetch_max_bytes=4 * FETCH_BYTES,
        max_partition_fetch_bytes=FETCH_BYTES,
        check_crcs=False,
    ) as consumer:
        consumer.assign(assigned)
        ends = await consumer.end_offsets(assigned)
        starts = await consumer.beginning_offsets(assigned)
        open_ends = {tp for tp in assigned if starts[tp] < ends[tp]}
        consumer.pause(*(tp for tp in assigned if tp not in open_ends))
        moved_at = asyncio.get_running_loop().time()
        while open_ends:
            fetched = await consumer.getmany(timeout_ms=200)
            for tp, records in fetched.items():
                yield [
                    Record(r.topic, r.partition, r.offset, r.key, r.value, tuple(r.headers))
                    for r in records
                    if r.offset < ends[tp]
                ]
            for tp in list(open_ends):
                if await consumer.position(tp) >= ends[tp]:
                    open_ends.discard(tp)
                    consumer.pause(tp)
                    moved_at = asyncio.get_running_loop().time()
            if fetched:
                moved_at = asyncio.get_running_loop().time()
            elif asyncio.get_running_loop().time() - moved_at > STALLED_S:
                raise TimeoutError(f"no progress in {STALLED_S} s; left: {sorted(open_ends)}")


async def read(
    bootstrap: str, topics: Sequence[str], isolation: Isolation = "read_uncommitted"
) -> dict[str, dict[int, list[Record]]]:
    """Topic → partition → records in offset order, every partition present even when it is empty."""
    logs: dict[str, dict[int, list[Record]]] = {}
    for tp in await partitions(bootstrap, topics):
        logs.setdefault(tp.topic, {})[tp.partition] = []
    async for chunk in stream(bootstrap, topics, isolation):
        if chunk:
            logs[chunk[0].topic][chunk[0].partition].extend(chunk)
    return logs


async def partitions(bootstrap: str, topics: Iterable[str]) -> list[TopicPartition]:
    """Every partition of `topics`; raises TopicMissing."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        # All topics are asked for, because a client that may create topics would create one that is named.
        found = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
    finally:
        await admin.close()
    wanted = list(topics)
    for topic in wanted:
        if not found.get(topic):
            raise TopicMissing(topic)
    return [TopicPartition(topic, p) for topic in wanted for p in sorted(p["partition"] for p in found[topic])]
