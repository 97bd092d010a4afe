"""Steps 3 and 4 for one batch: deduplicate, run the agent's functions, stop at the first record that blocks."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pipeline.core.agent import Definition
from pipeline.core.contract import Contract
from pipeline.core.decode import Decided
from pipeline.core.outcome import Applied, Blocked, Candidate, Outcome, Rejected
from pipeline.core.settle import NO_TABLES, Limits, already_seen, conclude, failed
from pipeline.core.state import State
from pipeline.core.tables import Tables
from pipeline.runtime.cancels import delivered, forgotten
from pipeline.runtime.demand import Demand
from pipeline.runtime.engine_errors import ENGINE_ERRORS
from pipeline.runtime.lanes import Lanes
from pipeline.runtime.outside import Outsider

Place = tuple[str, int]
"""(topic, offset) of a record within its unit."""
NOT_THE_HANDLERS = (KeyboardInterrupt, *ENGINE_ERRORS)


class HandlerCancelled(Exception):
    """A handler ended in a CancelledError of its own: a bug of it, as any other exception."""


@dataclass(slots=True)
class Handling:
    """What steps 3 and 4 need of a unit.

    limits: as of now; they change when a topic's do. stored: gives the look-up of stored rows. now_ms: the worker's
    clock, read once for what is run together. tables: of the SQL read model. condemned: records of which a later step
    has found what becomes of them; one that blocks is tried again then.

    Whatever a handler raises is judged here, BaseExceptions too (`failed`): sys.exit() in a handler would end the
    worker again after each restart. Only what isn't the handler's goes through: KeyboardInterrupt, the engine's own
    errors, and the cancellation or closing of the task that runs it.
    """

    unit: str
    agent: Definition
    contracts: Mapping[str, Contract]
    limits: Callable[[], Limits]
    demand: Demand
    stored: Callable[[], Callable[[bytes], bytes | None]]
    outsider: Outsider
    now_ms: Callable[[], int]
    tables: Tables = NO_TABLES
    condemned: dict[Place, Rejected | Blocked] = field(default_factory=dict)

    @property
    def is_async(self) -> bool:
        """Whether any handler awaits, or may act outside."""
        return self.outsider.has_views or any(handler.is_async for handler in self.agent.handlers.values())

    async def run(
        self, decided: Sequence[Decided], marks: Mapping[bytes, bytes]
    ) -> tuple[list[Outcome], Blocked | None]:
        """Outcomes of the records before the first one that blocks, and that one."""
        if self.is_async:
            one = partial(self._one, marks=marks, limits=self.limits(), now_ms=self.now_ms())
            return await Lanes(self.unit, self.demand, decided, one).run()
        task = asyncio.current_task()
        before = task.cancelling() if task is not None else 0
        handled = self._in_a_loop(decided, marks)
        if task is not None and task.cancelling() > before:  # nothing else has run meanwhile
            await forgotten(task, before)
        return handled

    def _in_a_loop(
        self, decided: Sequence[Decided], marks: Mapping[bytes, bytes]
    ) -> tuple[list[Outcome], Blocked | None]:
        pending: dict[bytes, bytes | None] = {}
        outcomes: list[Outcome] = []
        stored, agent, contracts, limits, tables = self.stored(), self.agent, self.contracts, self.limits(), self.tables
        now_ms = self.now_ms()
        for item in decided:
            if type(item) is not Candidate:
                if type(item) is Blocked:
                    return outcomes, item
                outcomes.append(item)  # type: ignore[arg-type]  # narrowed by exact type, for speed
                continue
            mark = pending.get(item.mark) or marks.get(item.mark)
            outcome: Outcome | Blocked | None = self._settled(item, mark) if mark or self.condemned else None
            if outcome is None:
                event = item.event
                state = State(event.key, pending, stored, event.msg_id, mark)
                try:
                    effects = agent.handlers[event.type](event, state)
                    outcome = conclude(item, effects, state, agent, contracts, limits, now_ms, tables)
                except NOT_THE_HANDLERS:
                    raise
                except BaseException as error:  # noqa: BLE001 - whose fault it is, is decided by its type
                    outcome = failed(item, error, agent)
                else:
                    pending.update(outcome.rows)
            if type(outcome) is Blocked:
                return outcomes, outcome
            outcomes.append(outcome)  # type: ignore[arg-type]
        return outcomes, None

    async def _one(
        self,
        item: Candidate,
        lanes: Lanes,
        *,
        marks: Mapping[bytes, bytes],
        limits: Limits,
        now_ms: int,
    ) -> Outcome | Blocked:
        mark = lanes.pending.get(item.mark) or marks.get(item.mark)
        settled = self._settled(item, mark)
        if settled is not None:
            return settled
        state = State(item.event.key, lanes.pending, self.stored(), item.event.msg_id, mark)
        running = asyncio.current_task()
        assert running is not None
        try:
            applied = await self._handled(item, state, limits, now_ms)
            await delivered(running)
        except NOT_THE_HANDLERS:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            return await self._blamed(item, error, running, lanes)
        if not applied.outside:
            return applied
        try:
            return await self.outsider.act(applied)
        except ENGINE_ERRORS:
            raise
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - as above
            return await self._blamed(item, error, running, lanes)

    async def _handled(self, item: Candidate, state: State, limits: Limits, now_ms: int) -> Applied:
        handler = self.agent.handlers[item.event.type]
        effects = handler(item.event, state)
        if handler.is_async:
            effects = [effect async for effect in effects] if hasattr(effects, "__aiter__") else await effects
        return conclude(item, effects, state, self.agent, self.contracts, limits, now_ms, self.tables)

    async def _blamed(
        self, item: Candidate, error: BaseException, task: asyncio.Task[Any], lanes: Lanes
    ) -> Rejected | Blocked:
        """What the error means for the record; raises it when the task that runs the handler is to end."""
        if _ends(task, error, lanes):
            raise error
        try:
            await delivered(task)
        except asyncio.CancelledError:
            if lanes.ending:
                raise
        if isinstance(error, asyncio.CancelledError):
            cancelled = HandlerCancelled("the handler, or what it awaited, was cancelled, and not by the unit's end")
            cancelled.__cause__ = error
            error = cancelled
        return failed(item, error, self.agent)

    def rewound(self, topic: str) -> None:
        """The records of this topic come again, or others in their places: what was found of them is of no use."""
        for place in [place for place in self.condemned if place[0] == topic]:
            del self.condemned[place]

    def _settled(self, item: Candidate, mark: bytes | None) -> Outcome | Blocked | None:
        """What is known before the handler runs: a duplicate, a conflict, or what a later step has found."""
        seen = already_seen(item, mark)
        if seen is not None:
            return seen
        if self.condemned:
            place = item.record.topic, item.record.offset
            found = self.condemned.get(place)
            if type(found) is Blocked:
                del self.condemned[place]
            return found
        return None


def _ends(task: asyncio.Task[Any], error: BaseException, lanes: Lanes) -> bool:
    """Whether the task that runs the handler is being cancelled or closed; else the handler raised `error` itself."""
    if isinstance(error, asyncio.CancelledError):
        return lanes.ending
    if isinstance(error, GeneratorExit):  # one that is closed isn't the current task any more
        try:
            return asyncio.current_task() is not task
        except RuntimeError:  # no loop runs
            return True
    return False
