"""Waits until a consumer group has committed everything that stands in its topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.oracle.truth import partitions

POLL_S = 0.2


class StillLagging(TimeoutError):
    """The group did not get there; the message gives each partition that is behind, with its two offsets."""


class LagReader:
    """Asks for the lag of one group, again and again, over the same connections."""

    def __init__(
        self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, group: str, partitions: Sequence[TopicPartition]
    ) -> None:
        self._admin = admin
        self._consumer = consumer
        self._group = group
        self._partitions = partitions

    async def behind(self) -> dict[TopicPartition, tuple[int, int]]:
        """(committed, end) of each partition where they differ; a partition without a commit counts from 0.

        Raises KafkaError while the coordinator or a leader is away.
        """
        # Committed first: what arrives between the two requests then counts as lag, never as done.
        committed = await self._admin.list_consumer_group_offsets(self._group)
        ends = await self._consumer.end_offsets(self._partitions)
        offsets = {tp: max(0, committed[tp].offset) if tp in committed else 0 for tp in self._partitions}
        return {tp: (offsets[tp], ends[tp]) for tp in self._partitions if offsets[tp] != ends[tp]}


@asynccontextmanager
async def lag_reader(bootstrap: str, group: str, topics: Sequence[str]) -> AsyncIterator[LagReader]:
    """A connected LagReader; raises TopicMissing."""
    judged = await partitions(bootstrap, topics)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
    await admin.start()
    try:
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap, request_timeout_ms=10_000) as consumer:
            yield LagReader(admin, consumer, group, judged)
    finally:
        await admin.close()


async def wait_for_lag_zero(bootstrap: str, group: str, topics: Sequence[str], timeout_s: float) -> float:
    """Returns the seconds it took until committed = end in every partition of `topics`; raises StillLagging."""
    started = time.monotonic()
    last: object = "no answer"
    while time.monotonic() - started < timeout_s:
        try:
            async with lag_reader(bootstrap, group, topics) as reader:
                while time.monotonic() - started < timeout_s:
                    behind = await reader.behind()
                    if not behind:
                        return time.monotonic() - started
                    last = {f"{tp.topic}/{tp.partition}": offsets for tp, offsets in behind.items()}
                    await asyncio.sleep(POLL_S)
        except (KafkaError, OSError) as error:  # a broker is away: connect anew, and keep asking until the time is up
            last = error
            await asyncio.sleep(POLL_S)
    raise StillLagging(f"{group} after {timeout_s} s, (committed, end): {last}")
