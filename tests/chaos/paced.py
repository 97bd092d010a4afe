"""Input that lasts exactly as long as the faults do: a part for each of them, fast at first, then a trickle."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from tests.kafka.trial import Trial
from tests.kafka.waiting import until
from tests.oracle.generator import Mix, generate
from tests.oracle.journal import Journal
from tests.oracle.writer import PACED_RECORDS, write

RATE_MAX = 6_000.0
PART_WITHIN_S = 6.0
"""Most of a part is written in that time; then it thins out, down to a thirtieth of the part a second."""
THINNEST_S = 30.0
KEPT_BACK = 80
"""Records kept for each fault to come: the input never ends before the last one."""
LOOK_S = 0.2


class PacedFeed:
    """`async with PacedFeed(trial, seed, mix, parts) as feed`: `next_part` when a fault is over, `rest` for the end."""

    def __init__(self, trial: Trial, seed: int, mix: Mix, parts: int) -> None:
        self.journal = Journal(seed)
        self.mix = mix
        self._trial, self._parts, self._part = trial, parts, 0
        self._records = generate(seed, mix)
        self._writing: asyncio.Task[Journal] | None = None

    async def __aenter__(self) -> Self:
        self._writing = asyncio.create_task(
            write(
                self._trial.cluster.bootstrap,
                self._records,
                self._trial.partitions,
                journal=self.journal,
                pace=self._pace,
            )
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._writing is not None and not self._writing.done():
            self._writing.cancel()
            await asyncio.wait([self._writing])

    @property
    def flowing(self) -> bool:
        """Whether more is still to be written: a fault that comes now comes in mid-stream."""
        return self._writing is not None and not self._writing.done() and self.journal.acked < self.mix.events

    @property
    def part_size(self) -> float:
        """Records of one part."""
        return self.mix.events / (self._parts + 1)

    def next_part(self) -> None:
        """The next part may be written."""
        self._part += 1

    async def more(self, records: int, timeout_s: float = 90) -> None:
        """Wait until so many more have been acknowledged, and the stream goes on behind them."""
        wanted = self.journal.acked + records
        await until(lambda: self.journal.acked >= wanted or not self.flowing, timeout_s, f"{wanted} records written")
        assert self.flowing, "the input ended before the fault"

    async def rest(self) -> Journal:
        """No more faults: the rest at full speed; returns when all is answered."""
        self._part = self._parts
        assert self._writing is not None
        return await self._writing

    async def _pace(self, sent: int) -> None:
        while self._part < self._parts and sent >= self.mix.events - KEPT_BACK * (self._parts - self._part):  # noqa: ASYNC110 - a plain counter, watched
            await asyncio.sleep(LOOK_S)
        if self._part >= self._parts:
            return
        rate = (self.part_size * (self._part + 1) - sent) / PART_WITHIN_S
        await asyncio.sleep(PACED_RECORDS / min(max(rate, self.part_size / THINNEST_S), RATE_MAX))
