"""A cluster that a test scripts: away, back, acks that get lost, records that it refuses."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from aiokafka.errors import InvalidTimestampError, KafkaError, MessageSizeTooLargeError, RequestTimedOutError

from pipeline.producer.errors import BadPartition, NonExistingTopic, NotAvailable
from pipeline.producer.link import Sent
from pipeline.producer.message import Letter

POISON = b"poison"


class Cluster:
    """Topics as lists of values; it outlives the producers that write to it."""

    def __init__(self, counts: dict[str, int]) -> None:
        self.counts = counts
        self.logs: dict[tuple[str, int], list[bytes | None]] = defaultdict(list)
        self.times: dict[tuple[str, int], list[int]] = defaultdict(list)
        self.away = False
        self.hangs = False
        self.acks_lost = 0
        self.takes_since_ms: int | None = None
        self.errors: list[Exception] = []
        self.asked: list[str] = []
        self.requests: list[tuple[str, int, int]] = []
        self.back = asyncio.Event()

    def go_away(self, *, hangs: bool = False) -> None:
        """Refuse connections, or (hangs) answer nothing, until `come_back`."""
        self.away, self.hangs = True, hangs
        self.back.clear()

    def come_back(self) -> None:
        """Answer again."""
        self.away = False
        self.back.set()


class ScriptedLink:
    """A Link to a Cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.closed = False

    async def partitions(self, topic: str) -> int:
        await self._answered()
        self.cluster.asked.append(topic)
        if topic not in self.cluster.counts:
            raise NonExistingTopic(f"topic {topic} doesn't exist")
        return self.cluster.counts[topic]

    async def send(self, topic: str, partition: int, messages: Sequence[Letter], at_ms: int | None = None) -> Sent:
        cluster = self.cluster
        if partition >= await self.partitions(topic):
            raise BadPartition(f"{topic} has no partition {partition}")
        cluster.requests.append((topic, partition, len(messages)))
        times = [at_ms or message.timestamp_ms for message in messages]
        if cluster.takes_since_ms is not None and min(times) < cluster.takes_since_ms:
            raise InvalidTimestampError
        if cluster.errors:
            raise cluster.errors.pop(0)
        if any(message.value is not None and message.value.startswith(POISON) for message in messages):
            raise MessageSizeTooLargeError
        log = cluster.logs[topic, partition]
        offset = len(log)
        log.extend(message.value for message in messages)
        cluster.times[topic, partition].extend(times)
        if cluster.acks_lost:
            cluster.acks_lost -= 1
            raise RequestTimedOutError
        return Sent(offset, len(messages))

    async def refresh(self) -> None:
        await self._answered()

    async def close(self) -> None:
        self.closed = True

    async def _answered(self) -> None:
        await asyncio.sleep(0)
        if self.cluster.away:
            if not self.cluster.hangs:
                raise NotAvailable("scripted: away")
            await self.cluster.back.wait()
        if self.closed:
            raise KafkaError("closed")
