"""The outbox table: one connection that has the lock, reads and marks; calls wait in threads, not the event loop."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, TextClause
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from pipeline.core.errors import Misconfigured
from pipeline.outbox.connect import Source
from pipeline.outbox.errors import DatabaseAway
from pipeline.outbox.rows import Row, Waiting
from pipeline.outbox.statements import Statements
from pipeline.runtime.database import BIND_ERRORS, in_thread
from pipeline.runtime.refusals import reason_of

ANSWER_TIMEOUT_S = 20.0
IDS_MAX = 1_000
"""So many are named in one statement."""
COUNTED_MAX = 1_000_000
"""Counting goes no further, so that it never takes long."""

T = TypeVar("T")


class Backlog(NamedTuple):
    """What waits in the table, counted up to COUNTED_MAX. oldest_s: the age of the first unsent row; 0 without one."""

    unsent: int
    oldest_s: float
    failed: int


class Table:
    """An outbox table at a SQLAlchemy URL. Raises DatabaseAway; the next call then connects anew.

    deletes: whether it must let us delete. on_call: told how long each call took, in seconds.
    """

    def __init__(
        self, source: Source, *, deletes: bool = False, on_call: Callable[[float], object] = lambda _: None
    ) -> None:
        self._source, self._deletes, self._on_call = source, deletes, on_call
        self._statements = Statements(source.dialect, source.name)
        self._connection: Connection | None = None
        self._checked = False

    async def hold(self) -> bool:
        """Whether this process is the table's one active relay. Misconfigured when the table isn't what it must be."""
        return await self._call(self._hold)

    async def unsent(self, most: int, without: Collection[str]) -> list[Waiting]:
        """The first unsent rows by id, of all topics but these."""
        all_ = self._statements
        statement = all_.unsent_of_others if without else all_.unsent
        named = {"topics": sorted(without)} if without else {}
        return [Waiting(*row) for row in await self._fetch(statement, {"most": most} | named)]

    async def rows(self, ids: Sequence[int]) -> list[Row]:
        """These rows, by id; those that have gone are left out."""
        found: list[Row] = []
        for some in _slices(ids):
            found += [Row(*row) for row in await self._fetch(self._statements.rows, {"ids": some})]
        return found

    async def mark_sent(self, ids: Sequence[int]) -> None:
        """Kafka has these."""
        for some in _slices(ids):
            await self._change(self._statements.mark_sent, {"ids": some})

    async def mark_failed(self, id_: int, reason: str) -> None:
        """Kafka will never take this one as it is."""
        await self._change(self._statements.mark_failed, {"id": id_, "reason": reason.replace("\0", "\\0")})

    async def delete_sent(self, keep_s: float, most: int) -> int:
        """Delete rows that were sent longer ago than that, the oldest first; how many."""
        return await self._change(self._statements.delete_sent, {"keep_s": keep_s, "most": most})

    async def retry(self, ids: Sequence[int] = (), topic: str | None = None) -> int:
        """Failed rows are unsent again: these, or a topic's, or all; how many."""
        if ids:
            return sum([await self._change(self._statements.retry_ids, {"ids": some}) for some in _slices(ids)])
        if topic is not None:
            return await self._change(self._statements.retry_topic, {"topic": topic})
        return await self._change(self._statements.retry, {})

    async def backlog(self) -> Backlog:
        """What waits."""
        counts = {"most": COUNTED_MAX}
        (unsent,) = (await self._fetch(self._statements.count_unsent, counts))[0]
        (failed,) = (await self._fetch(self._statements.count_failed, counts))[0]
        oldest = await self._fetch(self._statements.oldest_s, {})
        return Backlog(unsent, max(0.0, oldest[0][0]) if oldest else 0.0, failed)

    async def by_topic(self) -> list[tuple[str, int, float]]:
        """(topic, unsent rows, age of the oldest in seconds), of the first COUNTED_MAX rows."""
        return [(row[0], row[1], row[2]) for row in await self._fetch(self._statements.by_topic, {"most": COUNTED_MAX})]

    async def failures(self, most: int) -> list[dict[str, Any]]:
        """Failed rows by id: id, topic, key, failed, attempts, failure."""
        names = ("id", "topic", "key", "failed", "attempts", "failure")
        return [
            dict(zip(names, row, strict=True)) for row in await self._fetch(self._statements.failures, {"most": most})
        ]

    async def relay_is_active(self) -> bool:
        """Whether a relay has the table."""
        return await self._call(lambda: self._source.lock.held(self._connected()))

    def close(self) -> None:
        """Give up the lock and the connection; doesn't wait for a server that is silent."""
        self._source.lock.release()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._source.end(connection)

    async def _fetch(self, statement: TextClause, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        return await self._call(lambda: [tuple(row) for row in self._connected().execute(statement, parameters)])

    async def _change(self, statement: TextClause, parameters: dict[str, Any]) -> int:
        return await self._call(lambda: int(self._connected().execute(statement, parameters).rowcount))

    async def _call(self, work: Callable[[], T]) -> T:
        found: list[T] = []
        began = time.monotonic()
        try:
            await asyncio.wait_for(in_thread(lambda: found.append(work())), ANSWER_TIMEOUT_S)
        except (SQLAlchemyError, *BIND_ERRORS, OSError, TimeoutError) as error:
            self.close()
            silent = f"no answer within {ANSWER_TIMEOUT_S:g} s"
            raise DatabaseAway(silent if isinstance(error, TimeoutError) else reason_of(error)) from error
        self._on_call(time.monotonic() - began)
        return found[0]

    def _hold(self) -> bool:
        connection = self._connected()
        if not self._checked:
            self._check(connection)
            self._checked = True
        return self._source.lock.take(connection)

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._source.connect()
        return self._connection

    def _check(self, connection: Connection) -> None:
        """Statements that change nothing."""
        all_, nothing = self._statements, {"ids": [-1], "topics": [""], "most": 0, "id": -1, "reason": "", "keep_s": 0}
        used = [all_.unsent_of_others, all_.rows, all_.mark_sent, all_.mark_failed, all_.failures]
        try:
            for statement in [*used, all_.delete_sent] if self._deletes else used:
                connection.execute(statement, {name: nothing[name] for name in statement.compile().params})
        except SQLAlchemyError as error:
            said = reason_of(error)
            if isinstance(error, ProgrammingError) or "no such" in said:
                raise Misconfigured(
                    f"table {self._source.name.quoted} can't be used as an outbox ({said}): `hardparts outbox ddl` "
                    "prints what it must be; SELECT and UPDATE must be granted, and DELETE for HARDPARTS_OUTBOX_KEEP_S"
                ) from error
            raise


def _slices(ids: Sequence[int]) -> Iterable[list[int]]:
    for at in range(0, len(ids), IDS_MAX):
        yield list(ids[at : at + IDS_MAX])
