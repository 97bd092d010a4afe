"""Sending the records at a steady rate, each confirmed by the broker."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Self

from pipeline.demo.generate import Sent
from pipeline.producer import Delivery, ReliableProducer

STEP_S = 0.05
UNCONFIRMED_MAX = 2000
STOP_TIMEOUT_S = 2.0


class Feed:
    """`await until(0.5)` sends the first half; `fed` counts what is confirmed. Time between calls isn't made up for."""

    def __init__(self, client: Mapping[str, Any], records: Iterator[Sent], total: int, seconds: float) -> None:
        self._producer = ReliableProducer(client)
        self._records, self.total, self._per_s = records, total, total / seconds
        self._unconfirmed: deque[Delivery] = deque()
        self.sent = self.fed = 0

    async def until(self, share: float) -> None:
        """Send until `share` of all records (0 to 1) is sent and confirmed; ProducerError when one can't be."""
        goal, began_at, began_with = round(self.total * share), time.monotonic(), self.sent
        while self.sent < goal:
            due = began_with + (time.monotonic() - began_at) * self._per_s
            while self.sent < min(due, goal):
                self._send(next(self._records))
            await self._confirm(leave=UNCONFIRMED_MAX)
            await asyncio.sleep(STEP_S)
        await self._confirm(leave=0)

    def _send(self, record: Sent) -> None:
        self._unconfirmed.append(self._producer.produce(record.topic, None, record.value, key=record.key))
        self.sent += 1

    async def _confirm(self, leave: int) -> None:
        while self._unconfirmed and (self._unconfirmed[0].done or len(self._unconfirmed) > leave):
            await self._unconfirmed.popleft()
            self.fed += 1

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop(STOP_TIMEOUT_S)
