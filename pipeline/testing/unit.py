"""The real unit, stopped where a test wants it stopped: before a step, or at a head that stays blocked."""

from collections.abc import Awaitable, Callable, Sequence

from pipeline.core.agent import Definition
from pipeline.core.decode import Decided
from pipeline.core.outcome import Applied, Blocked, Outcome
from pipeline.core.record import Batch, Record
from pipeline.core.views import Claims
from pipeline.runtime.blocking import Head
from pipeline.runtime.context import Context
from pipeline.runtime.outside import Outsider
from pipeline.runtime.ownership import Owner
from pipeline.runtime.store import Store
from pipeline.runtime.unit import Unit
from pipeline.testing.failures import Failures


class StillBlocked(Exception):
    """A worker would wait on; the kit gives control back to the test."""


class PatientHead(Head):
    """A head that gives up after `attempts_max` failed attempts in one run of the kit."""

    def __init__(self, context: Context, agent: str, partition: int, attempts_max: int) -> None:
        super().__init__(context, agent, partition)
        self._attempts_max = attempts_max
        self._attempts_left = attempts_max

    def run_begins(self) -> None:
        """The kit runs again: as many attempts again."""
        self._attempts_left = self._attempts_max

    async def wait(self, blocked: Blocked) -> None:
        """One more failed attempt; StillBlocked when there were enough of them."""
        await super().wait(blocked)
        self._attempts_left -= 1
        if self._attempts_left <= 0:
            raise StillBlocked(blocked.message)


class FallibleOutsider(Outsider):
    """Outside effects whose calls can be planned to fail."""

    failures: Failures

    async def act(self, applied: Applied) -> Applied:
        """As planned, or as written."""
        guarded = tuple(one._replace(act=self.failures.guard("outside", one.act)) for one in applied.outside)
        return await super().act(applied._replace(outside=guarded))


class KitUnit(Unit):
    """`Unit.process` as it runs in a worker, each step announced before it begins."""

    head: PatientHead

    def __init__(  # as Unit
        self,
        context: Context,
        agent: Definition,
        partition: int,
        changelog: str,
        store: Store,
        owner: Owner,
        *,
        retake: Callable[[Unit], Awaitable[None]],
        failures: Failures,
        attempts_max: int,
    ) -> None:
        super().__init__(context, agent, partition, changelog, store, owner, retake, _no_reseek)
        self._failures = failures
        self.head = PatientHead(context, agent.name, partition, attempts_max)
        claims = [view for view in agent.views if isinstance(view, Claims)]
        self._outsider = FallibleOutsider(claims, context, self.name, self._stored, self.record_rows)
        self._outsider.failures = failures
        self._handling.outsider = self._outsider

    async def finish(self, batch: Batch) -> None:
        """All records of a batch, as the unit's own task does it; StillBlocked when it would wait for long."""
        self.head.run_begins()
        await self._finish(batch)

    async def decode(self, records: Sequence[Record]) -> list[Decided]:
        """Step 2."""
        self._failures.reach("decode")
        return await super().decode(records)

    def deduplicate(self, decided: Sequence[Decided]) -> dict[bytes, bytes]:
        """Step 3."""
        self._failures.reach("deduplicate")
        return super().deduplicate(decided)

    async def handle(
        self, decided: Sequence[Decided], marks: dict[bytes, bytes]
    ) -> tuple[list[Outcome], Blocked | None]:
        """Step 4."""
        self._failures.reach("handle")
        return await super().handle(decided, marks)

    async def publish(self, outcomes: Sequence[Outcome]) -> None:
        """Step 5."""
        self._failures.reach("publish")
        await super().publish(outcomes)

    async def record(self, batch: Batch, outcomes: Sequence[Outcome], rest: Sequence[Record]) -> int | None:
        """Step 6."""
        self._failures.reach("record")
        return await super().record(batch, outcomes, rest)

    def apply(self, outcomes: Sequence[Outcome], rows_end: int | None) -> None:
        """Step 7."""
        self._failures.reach("apply")
        super().apply(outcomes, rows_end)

    def complete(self, batch: Batch, outcomes: Sequence[Outcome], todo: Sequence[Record]) -> None:
        """Step 8."""
        self._failures.reach("complete")
        super().complete(batch, outcomes, todo)


async def _no_reseek(topic: str, partition: int, offset: int) -> int:
    raise AssertionError(f"the kit delivers every record: {topic}[{partition}] has no gap at {offset}")
