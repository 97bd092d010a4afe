"""Input that goes on in the background for as long as faults are made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from tests.kafka.trial import Trial
from tests.kafka.waiting import until
from tests.oracle.generator import Made, Mix, generate
from tests.oracle.journal import Journal

WITHOUT_END = 10**9


class Feed:
    """`async with Feed(trial, seed, rate=…) as feed`: writes until `end` is called, or `mix.events` are written.

    place: where a record goes; None leaves it out.
    """

    def __init__(
        self,
        trial: Trial,
        seed: int,
        rate: float,
        mix: Mix | None = None,
        place: Callable[[Made], int | None] | None = None,
    ) -> None:
        self.journal = Journal(seed)
        self.mix = mix or Mix(events=WITHOUT_END)
        self._trial, self._rate, self._place = trial, rate, place
        self._records = generate(seed, self.mix)
        self._ending = False
        self._writing: asyncio.Task[Journal] | None = None

    async def __aenter__(self) -> Self:
        self._writing = asyncio.create_task(self._write())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._writing is not None and not self._writing.done():
            self._writing.cancel()
            await asyncio.wait([self._writing])

    @property
    def flowing(self) -> bool:
        """Whether more is still being written: a fault that comes now comes in mid-stream."""
        return self._writing is not None and not self._writing.done() and self.journal.acked < self.mix.events

    async def reached(self, acked: int, timeout_s: float = 90) -> None:
        """Wait until so many records have been acknowledged, and the stream goes on behind them."""
        await until(lambda: self.journal.acked >= acked or not self.flowing, timeout_s, f"{acked} records written")
        assert self.flowing, "the input ended before the fault"

    async def more(self, records: int, timeout_s: float = 90) -> None:
        """Wait for so many records more than there are now."""
        await self.reached(self.journal.acked + records, timeout_s)

    async def end(self) -> Journal:
        """No more new records; returns when all that were begun are answered."""
        self._ending = True
        return await self.rest()

    async def rest(self) -> Journal:
        """Wait for the end of the mix."""
        assert self._writing is not None
        return await self._writing

    async def _write(self) -> Journal:
        return await self._trial.write(self._until_ended(), self.journal, self._rate, self._place)

    def _until_ended(self) -> Iterator[Made]:
        for made in self._records:
            if self._ending:
                return
            yield made
