"""The units of this worker: which there are, which have room, what they have finished."""

import asyncio
import logging
import time
from collections.abc import Iterator

from faust.types import TP

from pipeline.core.record import Batch
from pipeline.runtime.context import Context
from pipeline.runtime.unit import Unit

log = logging.getLogger("hardparts.units")

STOP_WITHIN_S = 3.0


class Units:
    """Every unit that this worker owns now, by source topic-partition."""

    def __init__(self, context: Context, batch_records_max: int) -> None:
        self.context = context
        self.batch_records_max = batch_records_max
        self._units: dict[tuple[str, int], Unit] = {}
        self._by_source: dict[tuple[str, int], Unit] = {}
        self._committed: dict[TP, int] = {}

    def __iter__(self) -> Iterator[Unit]:
        return iter(self._units.values())

    def add(self, unit: Unit) -> None:
        """A unit has been taken over and runs."""
        self._units[unit.agent.name, unit.partition] = unit
        for topic in unit.agent.sources:
            self._by_source[topic.name, unit.partition] = unit
        self.context.room.set()

    def get(self, agent: str, partition: int) -> Unit | None:
        """The unit of `agent` for `partition`, if it is here."""
        return self._units.get((agent, partition))

    def with_room(self) -> set[TP]:
        """Source topic-partitions for which more may be fetched."""
        return {TP(*source) for source, unit in self._by_source.items() if unit.running and unit.has_room()}

    def all_have_room(self, room: set[TP]) -> bool:
        """Whether `room` leaves none out."""
        return len(room) == len(self._by_source)

    def reserve(self, tp: TP) -> None:
        """A batch of `tp` is on its way to its unit."""
        unit = self._by_source.get((tp.topic, tp.partition))
        if unit is not None:
            unit.inbox.reserve()

    async def deliver(self, batch: Batch) -> None:
        """Hand a batch to its unit; without one (a rebalance came in between) it is dropped and fetched again."""
        unit = self._by_source.get((batch.topic, batch.partition))
        if unit is not None:
            await unit.deliver(batch)

    def uncommitted(self) -> dict[TP, int]:
        """Finished positions that are not committed yet."""
        moved = {}
        for unit in self._units.values():
            for topic, offset in unit.recorded.items():
                tp = TP(topic, unit.partition)
                if self._committed.get(tp) != offset:
                    moved[tp] = offset
        return moved

    def note_committed(self, offsets: dict[TP, int]) -> None:
        """These positions are at the broker."""
        self._committed.update(offsets)

    def begin_at(self, positions: dict[TP, int]) -> None:
        """What the broker has as committed when a takeover begins."""
        self._committed.update(positions)

    async def stop(self) -> None:
        """Finish or abandon every unit within STOP_WITHIN_S; what they finished can still be committed."""
        units = list(self)  # now: who forgets them meanwhile doesn't shorten this
        if not units:
            return
        deadline = time.monotonic() + STOP_WITHIN_S
        stopped = await asyncio.gather(*(unit.stop(deadline) for unit in units), return_exceptions=True)
        for unit, error in zip(units, stopped, strict=True):
            if isinstance(error, BaseException):
                log.error("%s didn't stop cleanly", unit.name, exc_info=error)
        self.context.crash.reach("in-rebalance")

    def forget(self) -> None:
        """They are someone else's now, until the next takeover."""
        self._units.clear()
        self._by_source.clear()
        self._committed.clear()
