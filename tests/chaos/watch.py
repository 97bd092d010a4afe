"""How far the input and the workers are, four times a second: what the report's picture is drawn from."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.oracle.records import SOURCES
from tests.oracle.truth import TopicMissing, partitions

EVERY_S = 0.25
ANSWER_WITHIN_S = 5.0


class Sample(NamedTuple):
    """Records of the input that were written, and that the workers have committed, at a time after the start."""

    at_s: float
    written: int
    done: int

    @property
    def lag(self) -> int:
        """Records behind."""
        return max(self.written - self.done, 0)


class Watch:
    """`async with Watch(bootstrap, group) as watch`; no samples while the broker is away."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self._bootstrap, self._group = bootstrap, group
        self.started = time.monotonic()
        self.samples: list[Sample] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def at_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def last(self) -> Sample:
        """The newest sample."""
        return self.samples[-1] if self.samples else Sample(self.at_s, 0, 0)

    def note(self, written: int, done: int) -> None:
        """Keep a sample. A coordinator that is still loading knows fewer offsets, which never go back: no sample."""
        if done >= self.last.done:
            self.samples.append(Sample(self.at_s, written, done))

    async def _run(self) -> None:
        while True:
            with suppress(KafkaError, OSError, TimeoutError, TopicMissing):
                await self._follow()
            await asyncio.sleep(EVERY_S)

    async def _follow(self) -> None:
        judged = await partitions(self._bootstrap, SOURCES)
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap, request_timeout_ms=5_000)
        try:
            await admin.start()
            async with AIOKafkaConsumer(bootstrap_servers=self._bootstrap, request_timeout_ms=10_000) as consumer:
                while True:
                    async with asyncio.timeout(ANSWER_WITHIN_S):
                        committed = await admin.list_consumer_group_offsets(self._group)
                        ends = await consumer.end_offsets(judged)
                    done = sum(max(0, committed[tp].offset) for tp in judged if tp in committed)
                    self.note(sum(ends.values()), done)
                    await asyncio.sleep(EVERY_S)
        finally:
            await admin.close()
