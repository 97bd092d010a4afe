"""A relay in the test's own process, on a scripted cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka.errors import TopicAuthorizationFailedError

from pipeline.core.backoff import Backoff
from pipeline.outbox import Relay, Table
from pipeline.outbox.connect import Source
from pipeline.outbox.metrics import OutboxMetrics
from pipeline.outbox.window import Bounds
from pipeline.producer import Limits, ReliableProducer
from pipeline.producer.link import Sent
from pipeline.producer.message import Message
from pipeline.runtime.alerts import Alerts
from tests.outbox.databases import TABLE, Database
from tests.producer.scripted import Cluster, ScriptedLink

SOON = Backoff(0.02, 0.1)


class StrictCluster(Cluster):
    """One that also denies topics, and lets some hang."""

    def __init__(self, counts: dict[str, int]) -> None:
        super().__init__(counts)
        self.denied: set[str] = set()
        self.denied_after: dict[str, int] = {}
        self.answers = asyncio.Event()
        self.silent: set[str] = set()
        self.keys: list[bytes | None] = []
        self.headers: list[Any] = []


class StrictLink(ScriptedLink):
    """A Link to one."""

    cluster: StrictCluster

    async def send(self, topic: str, partition: int, messages: Sequence[Message], at_ms: int | None = None) -> Sent:
        if topic in self.cluster.silent:
            await self.cluster.answers.wait()
        after = self.cluster.denied_after.get(topic)
        if topic in self.cluster.denied or (after is not None and len(self.cluster.logs[topic, partition]) >= after):
            raise TopicAuthorizationFailedError(topic)
        self.cluster.keys += [message.key for message in messages]
        self.cluster.headers += [message.headers for message in messages]
        return await super().send(topic, partition, messages, at_ms)


@asynccontextmanager
async def running(
    database: Database, cluster: StrictCluster, *, keep_s: float | None = None, bounds: Bounds | None = None
) -> AsyncIterator[Relay]:
    """Started; stopped at the end."""
    link = StrictLink(cluster)
    producer = ReliableProducer(
        {}, link=link, linger_s=0, missing_after_s=0.2, backoff=SOON, limits=Limits(memory_messages=40_000)
    )
    table = Table(Source(database.url, TABLE), deletes=keep_s is not None)
    relay = Relay(table, producer, Alerts(), OutboxMetrics(), keep_s=keep_s, bounds=bounds, hold=SOON)
    await producer.start()
    task = asyncio.create_task(relay.run())
    try:
        yield relay
        relay.stop()
        await task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await producer.stop(timeout_s=0)


def values(cluster: StrictCluster, topic: str) -> list[bytes | None]:
    """What a topic of one partition holds."""
    return cluster.logs[topic, 0]


def opened(relay: Relay) -> set[str]:
    """The alerts that are open."""
    return set(relay._alerts.open)
