"""Steps 3 and 4 for one batch: deduplicate, run the agent's functions, stop at the first record that blocks."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from pipeline.core.agent import Definition
from pipeline.core.contract import Contract
from pipeline.core.decode import Decided
from pipeline.core.outcome import Blocked, Candidate, Outcome, Rejected, Rejection
from pipeline.core.settle import Limits, already_seen, conclude, failed
from pipeline.core.state import State
from pipeline.runtime.demand import Demand
from pipeline.runtime.engine_errors import ENGINE_ERRORS
from pipeline.runtime.lanes import Lanes
from pipeline.runtime.outside import Outsider

Place = tuple[str, int]
"""(topic, offset) of a record within its unit."""


class HandlerCancelled(Exception):
    """A handler ended in a CancelledError of its own: a bug of it, as any other exception."""


@dataclass(slots=True)
class Handling:
    """What steps 3 and 4 need of a unit.

    stored: gives the look-up of stored rows. now_ms: the worker's clock, for marks. condemned: records that a later
    step has found to be rejections.
    """

    unit: str
    agent: Definition
    contracts: Mapping[str, Contract]
    limits: Limits
    demand: Demand
    stored: Callable[[], Callable[[bytes], bytes | None]]
    outsider: Outsider
    now_ms: Callable[[], int]
    condemned: dict[Place, Rejection] = field(default_factory=dict)

    @property
    def is_async(self) -> bool:
        """Whether any handler awaits, or may act outside."""
        return self.outsider.has_views or any(handler.is_async for handler in self.agent.handlers.values())

    async def run(
        self, decided: Sequence[Decided], marks: Mapping[bytes, bytes]
    ) -> tuple[list[Outcome], Blocked | None]:
        """Outcomes of the records before the first one that blocks, and that one."""
        if self.is_async:
            return await Lanes(self.unit, self.demand, decided, partial(self._one, marks=marks)).run()
        return self._in_a_loop(decided, marks)

    def _in_a_loop(
        self, decided: Sequence[Decided], marks: Mapping[bytes, bytes]
    ) -> tuple[list[Outcome], Blocked | None]:
        pending: dict[bytes, bytes | None] = {}
        outcomes: list[Outcome] = []
        stored, agent, contracts, limits = self.stored(), self.agent, self.contracts, self.limits
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
                    outcome = conclude(item, effects, state, agent, contracts, limits, now_ms)
                except ENGINE_ERRORS:
                    raise
                except Exception as error:  # noqa: BLE001 - whose fault it is, is decided by its type
                    outcome = failed(item, error, agent)
                    if type(outcome) is Blocked:
                        return outcomes, outcome
                else:
                    pending.update(outcome.rows)
            outcomes.append(outcome)  # type: ignore[arg-type]
        return outcomes, None

    async def _one(
        self, item: Candidate, pending: dict[bytes, bytes | None], *, marks: Mapping[bytes, bytes]
    ) -> Outcome | Blocked:
        mark = pending.get(item.mark) or marks.get(item.mark)
        settled = self._settled(item, mark)
        if settled is not None:
            return settled
        state = State(item.event.key, pending, self.stored(), item.event.msg_id, mark)
        try:
            handler = self.agent.handlers[item.event.type]
            effects = handler(item.event, state)
            if handler.is_async:
                effects = [effect async for effect in effects] if hasattr(effects, "__aiter__") else await effects
            applied = conclude(item, effects, state, self.agent, self.contracts, self.limits, self.now_ms())
            return await self.outsider.act(applied) if applied.outside else applied
        except ENGINE_ERRORS:
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():  # the unit ends
                raise
            cancelled = HandlerCancelled("what the handler awaited was cancelled, and not by the unit's end")
            cancelled.__cause__ = error
            return failed(item, cancelled, self.agent)
        except Exception as error:  # noqa: BLE001 - as above
            return failed(item, error, self.agent)

    def _settled(self, item: Candidate, mark: bytes | None) -> Outcome | None:
        """What is known before the handler runs: a duplicate, a conflict, or a rejection of a later step."""
        seen = already_seen(item, mark)
        if seen is not None:
            return seen
        if self.condemned:
            rejection = self.condemned.get((item.record.topic, item.record.offset))
            if rejection is not None:
                return Rejected(item.record, rejection)
        return None
