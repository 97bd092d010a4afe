"""Running the handlers of one batch side by side over keys, in order within a key, up to the first one that blocks."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from pipeline.closing import ended
from pipeline.core.decode import Decided
from pipeline.core.errors import HardpartsError
from pipeline.core.outcome import Applied, Blocked, Candidate, Outcome
from pipeline.core.settle import BUG
from pipeline.runtime.demand import Demand
from pipeline.runtime.engine_errors import ENGINE_ERRORS

Pending = dict[bytes, bytes | None]


class Lanes:
    """One lane a key. Each running handler holds a slot of the worker's demand.

    handle: one candidate, given these lanes → what became of it. pending: the rows that this batch has written so far.
    ending: whether the batch is being ended, so that a cancel of a handler's task is ours and not its own.
    """

    def __init__(
        self,
        unit: str,
        demand: Demand,
        decided: Sequence[Decided],
        handle: Callable[[Candidate, "Lanes"], Awaitable[Outcome | Blocked]],
    ) -> None:
        self._unit, self._demand, self._decided, self._handle = unit, demand, decided, handle
        self.pending: Pending = {}
        self.ending = False
        self._results: dict[int, Outcome | Blocked] = {}
        self._first_blocked = len(decided)
        self._lost: HardpartsError | None = None
        lanes: dict[str, deque[int]] = {}
        for position, item in enumerate(decided):
            if isinstance(item, Candidate):
                lanes.setdefault(item.event.key, deque()).append(position)
            else:
                self._results[position] = item
        self._ready = deque(lanes.values())

    async def run(self) -> tuple[list[Outcome], Blocked | None]:
        """Outcomes of the records before the first one that blocks, and that one; what later ones did is dropped."""
        loop = asyncio.get_running_loop()
        work = [
            loop.create_task(self._work(), name=self._unit) for _ in range(min(self._demand.limit, len(self._ready)))
        ]
        if work:
            try:
                await asyncio.wait(work, return_when=asyncio.FIRST_EXCEPTION)
            finally:  # a TaskGroup would pass on the first cancel only
                self.ending = True
                await ended(*work)
            for done in work:
                if not done.cancelled() and (error := done.exception()) is not None:
                    raise error
        if self._lost is not None:
            raise self._lost
        outcomes: list[Outcome] = []
        for position in range(len(self._decided)):
            result = self._results.get(position) or self._lost_at(position)
            if isinstance(result, Blocked):
                return outcomes, result
            outcomes.append(result)
        return outcomes, None

    def _lost_at(self, position: int) -> Blocked:
        """The task that had this one was cancelled between two handlers: it is tried again, whatever bugs lead to."""
        item = self._decided[position]
        assert isinstance(item, Candidate)
        return Blocked(item.record, BUG, "a handler has cancelled its task after it had returned")

    async def _work(self) -> None:
        try:
            while self._ready:
                await self._run_lane(self._ready.popleft())
        except ENGINE_ERRORS as error:
            self._ready.clear()
            self._lost = error

    async def _run_lane(self, positions: deque[int]) -> None:
        while positions and positions[0] < self._first_blocked and not self.ending:
            position = positions.popleft()
            item = self._decided[position]
            assert isinstance(item, Candidate)
            async with self._demand.slot(self._unit):
                if position > self._first_blocked:
                    return
                result = await self._handle(item, self)
            self._results[position] = result
            if isinstance(result, Blocked):
                self._first_blocked = min(self._first_blocked, position)
                return
            if isinstance(result, Applied):
                self.pending.update(result.rows)
