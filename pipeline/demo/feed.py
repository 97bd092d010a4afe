"""Sending the records at a steady rate, each confirmed by the broker."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Self

from aiokafka import AIOKafkaProducer

from pipeline.demo.generate import Sent
from pipeline.demo.stopping import stopped

STEP_S = 0.05
UNCONFIRMED_MAX = 2000


class Feed:
    """`await until(0.5)` sends the first half; `fed` counts what is confirmed. Time between calls isn't made up for."""

    def __init__(self, client: Mapping[str, Any], records: Iterator[Sent], total: int, seconds: float) -> None:
        self._producer = AIOKafkaProducer(
            **client, acks="all", enable_idempotence=True, linger_ms=5, request_timeout_ms=10_000
        )
        self._records, self.total, self._per_s = records, total, total / seconds
        self._unconfirmed: deque[asyncio.Future[Any]] = deque()
        self.sent = self.fed = 0

    async def until(self, share: float) -> None:
        """Send until `share` of all records (0 to 1) is sent and confirmed; KafkaError when one can't be."""
        goal, began_at, began_with = round(self.total * share), time.monotonic(), self.sent
        while self.sent < goal:
            due = began_with + (time.monotonic() - began_at) * self._per_s
            while self.sent < min(due, goal):
                await self._send(next(self._records))
            await self._confirm(leave=UNCONFIRMED_MAX)
            await asyncio.sleep(STEP_S)
        await self._confirm(leave=0)

    async def _send(self, record: Sent) -> None:
        self._unconfirmed.append(await self._producer.send(record.topic, record.value, key=record.key))
        self.sent += 1

    async def _confirm(self, leave: int) -> None:
        while self._unconfirmed and (self._unconfirmed[0].done() or len(self._unconfirmed) > leave):
            await self._unconfirmed.popleft()
            self.fed += 1

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await stopped(self._producer.stop())
