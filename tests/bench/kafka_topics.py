"""Topics of the benchmark: create, delete, fill, and read their end offsets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder

from .workload import Comment

FILL_BATCH_BYTES = 16_384  # what Java's producer sends by default: peers shall not meet unusually large batches
FILL_BATCHES_IN_FLIGHT = 200
LEADERS_TIMEOUT_S = 30.0
POLL_S = 0.05
SETTLED_S = 2.0


@asynccontextmanager
async def admin_client(bootstrap: str) -> AsyncIterator[Any]:
    """An admin client, closed at the end."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def topic_names(bootstrap: str) -> set[str]:
    """All topics of the cluster."""
    async with admin_client(bootstrap) as admin:
        return set(await admin.list_topics())


async def create_topic(bootstrap: str, topic: str, partitions: int) -> None:
    """Create a topic with one replica unless it exists; return when every partition has a leader."""
    async with admin_client(bootstrap) as admin:
        if topic not in await admin.list_topics():
            await admin.create_topics([NewTopic(topic, partitions, 1)])
        async with asyncio.timeout(LEADERS_TIMEOUT_S):
            await _until_led(admin, topic, partitions)


async def _until_led(admin: Any, topic: str, partitions: int) -> None:
    while True:
        described = [found for found in await admin.describe_topics([topic]) if found["error_code"] == 0]
        if sum(p["leader"] >= 0 for found in described for p in found["partitions"]) == partitions:
            return
        await asyncio.sleep(POLL_S)


async def delete_topics(bootstrap: str, *, names: Iterable[str] = (), containing: str | None = None) -> None:
    """Delete the named topics and those whose name contains a text, as far as they exist."""
    async with admin_client(bootstrap) as admin:
        existing = set(await admin.list_topics())
        doomed = existing & set(names) | {name for name in existing if containing and containing in name}
        if doomed:
            await admin.delete_topics(sorted(doomed))


class EndOffsets:
    """The sum of a topic's end offsets: how many records it has had. Use as an async context manager."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        """Ask `bootstrap` about `topic`, which must exist."""
        self.topic = topic
        self.consumer: Any = AIOKafkaConsumer(bootstrap_servers=bootstrap)
        self.partitions: list[TopicPartition] = []

    async def __aenter__(self) -> Self:
        await self.consumer.start()
        numbers = await self._partition_numbers()
        self.partitions = [TopicPartition(self.topic, number) for number in numbers]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.consumer.stop()

    async def _partition_numbers(self) -> list[int]:
        await self.consumer._client.set_topics([self.topic])
        numbers = self.consumer.partitions_for_topic(self.topic)
        if not numbers:
            raise RuntimeError(f"topic {self.topic} does not exist")
        return sorted(numbers)

    async def by_partition(self) -> dict[TopicPartition, int]:
        """End offset of each partition."""
        return dict(await self.consumer.end_offsets(self.partitions))

    async def settle(self) -> None:
        """Wait until nothing has come for SETTLED_S."""
        found, since_s = await self.total(), time.monotonic()
        while time.monotonic() - since_s < SETTLED_S:
            await asyncio.sleep(POLL_S)
            if (now := await self.total()) != found:
                found, since_s = now, time.monotonic()

    async def total(self) -> int:
        """Sum over the partitions."""
        return sum((await self.by_partition()).values())


async def fill(bootstrap: str, topic: str, comments: Iterable[Comment], partitions: int) -> int:
    """Write comments in order, partitioned by key as every Kafka client does it. Return how many were written."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_batch_size=FILL_BATCH_BYTES
    )
    await producer.start()
    try:
        written, in_flight = 0, []
        for partition, batch in _batches(producer, comments, partitions):
            written += batch.record_count()
            in_flight.append(await producer.send_batch(batch, topic, partition=partition))
            if len(in_flight) >= FILL_BATCHES_IN_FLIGHT:
                for ack in in_flight:
                    await ack
                in_flight.clear()
        for ack in in_flight:
            await ack
        return written
    finally:
        await producer.stop()


def _batches(producer: Any, comments: Iterable[Comment], partitions: int) -> Iterator[tuple[int, BatchBuilder]]:
    partition_of = Partitioner(partitions)
    open_batches: dict[int, Any] = {}
    for comment in comments:
        number = partition_of(comment.user_id)
        batch = open_batches.get(number) or producer.create_batch()
        if batch.append(key=comment.key, value=comment.value, timestamp=None) is None:
            yield number, batch
            batch = producer.create_batch()
            batch.append(key=comment.key, value=comment.value, timestamp=None)
        open_batches[number] = batch
    yield from open_batches.items()


class Partitioner:
    """Kafka's default partitioner for user ids, remembered per user: murmur2 in Python would dominate the fill."""

    def __init__(self, partitions: int) -> None:
        """For a topic of so many partitions."""
        self.numbers = list(range(partitions))
        self.known: dict[int, int] = {}
        self.choose = DefaultPartitioner()

    def __call__(self, user_id: int) -> int:
        """Partition number of a user's records."""
        if user_id not in self.known:
            self.known[user_id] = self.choose(str(user_id).encode(), self.numbers, self.numbers)
        return self.known[user_id]
