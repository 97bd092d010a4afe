"""Input that lasts exactly as long as the faults do: a part for each of them, fast at first, then a trickle."""

from __future__ import annotations

import asyncio

from tests.kafka.feed import Feed
from tests.kafka.trial import Trial
from tests.oracle.generator import Mix
from tests.oracle.journal import Journal
from tests.oracle.writer import PACED_RECORDS, write

RATE_MAX = 6_000.0
PART_WITHIN_S = 6.0
"""Most of a part is written in that time; then it thins out, down to a thirtieth of the part a second."""
THINNEST_S = 30.0
KEPT_BACK = 80
"""Records kept for each fault to come: the input never ends before the last one."""
LOOK_S = 0.2


class PacedFeed(Feed):
    """`async with PacedFeed(trial, seed, mix, parts) as feed`: `next_part` when a fault is over, `rest` for the end."""

    def __init__(self, trial: Trial, seed: int, mix: Mix, parts: int) -> None:
        super().__init__(trial, seed, RATE_MAX, mix)
        self._parts, self._part = parts, 0

    @property
    def part_size(self) -> float:
        """Records of one part."""
        return self.mix.events / (self._parts + 1)

    @property
    def _most(self) -> int:
        """What may be written before the faults to come."""
        return self.mix.events - KEPT_BACK * (self._parts - self._part)

    async def some(self) -> None:
        """Wait for a tenth of a part more, or for as much of it as may be written before this fault is over."""
        await self.reached(min(self.journal.acked + int(0.1 * self.part_size), self._most))

    def next_part(self) -> None:
        """The next part may be written."""
        self._part += 1

    async def rest(self) -> Journal:
        """No more faults: the rest at full speed; returns when all is answered."""
        self._part = self._parts
        return await super().rest()

    async def _write(self) -> Journal:
        return await write(
            self._trial.cluster.bootstrap,
            self._records,
            self._trial.partitions,
            journal=self.journal,
            pace=self._pace,
        )

    async def _pace(self, sent: int) -> None:
        while self._part < self._parts and sent >= self._most:  # noqa: ASYNC110 - a plain counter, watched
            await asyncio.sleep(LOOK_S)
        if self._part >= self._parts:
            return
        rate = (self.part_size * (self._part + 1) - sent) / PART_WITHIN_S
        await asyncio.sleep(PACED_RECORDS / min(max(rate, self.part_size / THINNEST_S), self._rate))
