"""What is on its way to one unit: batches in the order of their offsets, none lost, none from before a seek."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from pipeline.core.record import Batch

log = logging.getLogger("hardparts.unit")

BATCHES_WAITING_MAX = 8
"""Batches that a unit holds; more are fetched only when fewer wait."""


class Inbox:
    """The batches that wait for one unit.

    reseek: fetch a source's partition again from an offset; returns the number of that seek. news: set when a batch
    has come.
    """

    def __init__(
        self, name: str, partition: int, reseek: Callable[[str, int, int], Awaitable[int]], news: asyncio.Event
    ) -> None:
        self._name, self._partition, self._reseek, self._news = name, partition, reseek, news
        self._waiting: deque[Batch] = deque()
        self._seeks: dict[str, int] = {}
        self._fetched: dict[str, int] = {}
        self._in_transit = 0
        self.closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._waiting)

    def begin(self, positions: dict[str, int], seeks: dict[str, int]) -> None:
        """Take what is fetched from these offsets (source topic → next) by the seeks of these numbers."""
        self._seeks, self._fetched = dict(seeks), dict(positions)

    def go_back(self, topic: str, offset: int, seek: int) -> None:
        """Take what is fetched of this source from here by this seek; what has come of it before comes again."""
        self._waiting = deque(batch for batch in self._waiting if batch.topic != topic)
        if not self.closed:
            self._seeks[topic], self._fetched[topic] = seek, offset

    def expects(self, batch: Batch) -> bool:
        """Whether it was fetched by the seek that counts."""
        return self._seeks.get(batch.topic) == batch.seek

    def has_room(self) -> bool:
        """Whether more may be fetched for it."""
        return len(self._waiting) + self._in_transit < BATCHES_WAITING_MAX

    def reserve(self) -> None:
        """A batch is on its way."""
        self._in_transit += 1

    async def deliver(self, batch: Batch) -> None:
        """Take a batch. One that doesn't begin where the last one ended means that something was lost on the way
        inside this process: the rest is fetched again from there. Unless the log has gone back: it has no such rest.
        """
        self._in_transit = max(self._in_transit - 1, 0)
        if self.closed or batch.seek != self._seeks.get(batch.topic):
            return  # from before a seek or a rebalance
        expected = self._fetched[batch.topic]
        if batch.start != expected and batch.end >= batch.start:
            log.warning(
                "%s: %s continues at %d instead of %d: fetching again", self._name, batch.topic, batch.start, expected
            )
            seek = await self._reseek(batch.topic, self._partition, expected)
            if not self.closed:
                self._seeks[batch.topic] = seek
            return
        self._fetched[batch.topic] = batch.end
        self._waiting.append(batch)
        self._news.set()

    def take(self) -> Batch:
        """The next batch."""
        return self._waiting.popleft()

    def close(self) -> None:
        """Drop what waits and take no more: it would be handled without the batches dropped here."""
        self.closed = True
        self._seeks.clear()
        self._waiting.clear()
