"""How many handlers run at once in this worker (X3)."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Demand:
    """`limit` slots for all units of a worker; each unit with something to do can always have one."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"demand is at least 1, not {limit}")
        self.limit = limit
        self._held: Counter[str] = Counter()
        self._units: set[str] = set()
        self._freed = asyncio.Event()

    def join(self, unit: str) -> None:
        """A unit begins: one slot is kept for it."""
        self._units.add(unit)

    def leave(self, unit: str) -> None:
        """A unit ends."""
        self._units.discard(unit)
        self._freed.set()

    @property
    def in_flight(self) -> int:
        """Handlers running now."""
        return self._held.total()

    @asynccontextmanager
    async def slot(self, unit: str) -> AsyncIterator[None]:
        """Hold one slot while a handler runs."""
        while not self._may_start(unit):
            self._freed.clear()
            await self._freed.wait()
        self._held[unit] += 1
        try:
            yield
        finally:
            self._held[unit] -= 1
            self._freed.set()

    def _may_start(self, unit: str) -> bool:
        if self._held[unit] == 0:
            return True
        spare = self.limit - len(self._units | {unit})
        return sum(max(held - 1, 0) for held in self._held.values()) < spare
