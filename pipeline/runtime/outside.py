"""Outside effects, at most once: a claim in the changelog, acknowledged, then the act, then `done`, acknowledged too.

`done` is written when the act returns, not with the mark of its event, which waits for the slowest of the batch.

A claim carries the incarnation of the process that made it. Finding one of another incarnation means that a process
died between claim and `done`: whether the mail went out is unknown, so it is audited and not sent again (D4). The same
holds for an act that this process began and whose unit was taken away before `done` was recorded. An act that says
that nothing happened gives its claim back, so that whoever tries the record next may act.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

from pipeline.core.effects import Audit, Outside
from pipeline.core.error_record import text
from pipeline.core.errors import Blocking, InDoubt, Reject
from pipeline.core.failure import name, stack_of
from pipeline.core.outcome import Applied
from pipeline.core.state import Row
from pipeline.core.views import Claims
from pipeline.runtime.cancels import delivered
from pipeline.runtime.context import Context
from pipeline.runtime.ownership import ProducerBroken

log = logging.getLogger("hardparts.outside")

Result = Literal["done", "in_doubt"]
CLAIMED, DONE, IN_DOUBT = b"claimed", b"done", b"in_doubt"


class Outsider:
    """The claims of one unit. `record` appends rows to the changelog, awaits the ack and applies them.

    unit: its name, which tells its claims from those of another agent under the same partition number.
    """

    def __init__(
        self,
        views: Iterable[Claims],
        context: Context,
        unit: str,
        stored: Callable[[bytes], bytes | None],
        record: Callable[[list[list[Row]]], Awaitable[None]],
    ) -> None:
        self._views = {view.name: view for view in views}
        self._context, self._unit = context, unit
        self._incarnation = context.incarnation.encode()
        self._stored = stored
        self._record = record
        self._results: dict[bytes, Result] = {}
        self._wanted: dict[bytes, bytes] = {}
        self._unreleased: set[bytes] = set()
        self._appending = asyncio.Lock()

    @property
    def has_views(self) -> bool:
        """Whether the agent declares claims at all."""
        return bool(self._views)

    async def _claim(self, row: bytes) -> bytes:
        """The claim under `row`, made now if there is none."""
        await self._store(row, CLAIMED + b" " + self._incarnation)
        claim = self._claim_of(row)
        if claim is None:  # it was in a batch with another lane's, whose append failed
            raise ProducerBroken(f"{self._unit}: a claim could not be stored")
        return claim

    async def _store(self, row: bytes, value: bytes) -> None:
        """Append and apply a claim, if there is none, or `done`; rows that are wanted at once share a record batch."""
        self._wanted[row] = value
        async with self._appending:
            wanted, self._wanted = self._wanted, {}
            rows: list[list[Row]] = [
                [(one, new)] for one, new in wanted.items() if new == DONE or self._claim_of(one) is None
            ]
            if rows:
                await self._record(rows)
                self._unreleased.difference_update(wanted)

    def _claim_of(self, row: bytes) -> bytes | None:
        return None if row in self._unreleased else self._stored(row)

    async def _release(self, row: bytes) -> None:
        """Nothing happened: delete the claim, and only then forget the act. Raises what the append raises."""
        self._unreleased.add(row)  # the tombstone may be written even if the append fails, so the claim can't be used
        try:
            async with self._appending:
                await self._record([[(row, None)]])
            self._unreleased.discard(row)
        finally:  # a later unit has all of the changelog, and what was in flight here is refused
            self._context.acting.discard((self._unit, row))

    async def act(self, applied: Applied) -> Applied:
        """The event with its acts done, or found in doubt; its rows say which. Raises what the act raises."""
        rows, audits = dict(applied.rows), list(applied.audits)
        for outside in applied.outside:
            row = self._views[outside.view].claim_row(applied.event.msg_id)
            result = self._results.get(row) or await self._once(row, outside)
            self._results[row] = result
            if result == "done" and self._claim_of(row) != DONE:
                await self._store(row, DONE)
                if self._claim_of(row) != DONE:
                    raise ProducerBroken(f"{self._unit}: that {outside.what} is done could not be stored")
            if result == "in_doubt":
                audits.append(Audit("in doubt", {"msg_id": applied.event.msg_id, "what": outside.what}))
            rows[row] = DONE if result == "done" else IN_DOUBT
        return applied._replace(rows=tuple(rows.items()), audits=tuple(audits), outside=())

    async def _once(self, row: bytes, outside: Outside) -> Result:
        acting, place = self._context.acting, (self._unit, row)
        claim = self._claim_of(row)
        if claim is None:
            if place in acting:  # another lane has begun it and is about to give its claim back
                return "in_doubt"
            claim = await self._claim(row)
        state, _, incarnation = claim.partition(b" ")
        if state == DONE:
            return "done"
        if state == IN_DOUBT or incarnation != self._incarnation or place in acting:
            return "in_doubt"
        self._context.crash.reach("after-claim")
        task = asyncio.current_task()
        acting.add(place)  # stays when this task is cancelled: the next owner in this process must not repeat it
        try:
            await _acted(outside)
        except InDoubt:
            return "in_doubt"
        except (Blocking, Reject):
            await self._release(row)
            raise
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise
        except BaseException as error:  # sys.exit() in an act would end the worker
            if isinstance(error, GeneratorExit) and asyncio.current_task() is not task:  # closed, not raised by the act
                raise
            what = name(outside.what)
            stack = text(stack_of(error))
            log.error("%s failed in a way that doesn't say whether it happened: %s", what, stack)  # noqa: TRY400 - bounded
            return "in_doubt"
        return "done"

    def forget(self, applied: Iterable[Applied]) -> None:
        """These events are recorded: their results need no memory any more."""
        if self._results:
            for one in applied:
                for view in self._views.values():
                    row = view.claim_row(one.event.msg_id)
                    self._results.pop(row, None)
                    self._context.acting.discard((self._unit, row))


async def _acted(outside: Outside) -> None:
    """Act. CancelledError when the act has cancelled its own task, however it ended: a claim may be written next."""
    task = asyncio.current_task()
    assert task is not None
    try:
        await outside.act()
    except GeneratorExit:  # nothing may be awaited any more
        raise
    except BaseException:
        await delivered(task)
        raise
    await delivered(task)
