"""The SQL read model: idempotent upserts, one transaction a batch.

When the database refuses rows, the transaction is rolled back, each row is tried by itself, and each offender is named
with whose fault it is (pipeline.runtime.refusals), so that the batch is redone without it or waits at it. Every other
failure is the database's fault and blocks the whole batch.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    create_engine,
    event,
    func,
    make_url,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from pipeline.core.effects import Upsert
from pipeline.core.errors import Blocking, HardpartsError, Misconfigured
from pipeline.core.tables import Columns, Tables, shape_of
from pipeline.runtime.refusals import Met, Refusal, Refusals, met_by, reason_of

CONNECT_TIMEOUT_S = 3
SILENCE_MAX_S = 10
"""After which PostgreSQL ends a statement, and the operating system a connection whose other side is silent."""

KEEPALIVE_S = 5
ANSWER_TIMEOUT_S = 15.0
"""How long a unit waits for its rows. The write may still happen later: it is idempotent."""

BIND_ERRORS = (OverflowError, UnicodeError)
"""What a driver raises as it is for a value that it can't bind."""


class UpsertsRejected(HardpartsError):
    """The database refuses these rows: `reasons` maps the position of each, in order, to why."""

    def __init__(self, reasons: dict[int, Refusal]) -> None:
        super().__init__(f"the database refuses {len(reasons)} rows: {next(iter(reasons.values())).reason}")
        self.reasons = reasons


class Database:
    """The read model at a SQLAlchemy URL, with the tables of `metadata`; connected at the first use."""

    def __init__(self, url: str, metadata: MetaData | None) -> None:
        self._url = url
        self._metadata = metadata
        self._engine: Engine | None = None
        self._ready = False
        self._connecting = threading.Lock()
        self.tables = tables_of(metadata)
        self._refusals = Refusals()

    async def write(self, upserts: Sequence[Upsert], origins: Sequence[object] = ()) -> None:
        """All of them, in order, in one transaction.

        origins: the outcome of the record that each is of; without, each is one by itself. Raises Blocking when the
        database is unavailable, UpsertsRejected when it refuses some of them.
        """
        if upserts:
            try:
                await asyncio.wait_for(
                    in_thread(lambda: self._write(upserts, origins or [object() for _ in upserts])), ANSWER_TIMEOUT_S
                )
            except TimeoutError as error:
                raise Blocking(f"no answer within {ANSWER_TIMEOUT_S:g} s", "database") from error

    async def erase(self, columns: Iterable[str], key: str, *, dry_run: bool) -> dict[str, int]:
        """table → how many of its rows have `key` in one of these columns; they are deleted unless dry_run.

        In one transaction; raises Blocking.
        """
        found: dict[str, int] = {}
        wanted = set(columns)
        try:
            await asyncio.wait_for(
                in_thread(lambda: self._guarded(lambda: self._erase(wanted, key, dry_run, found))), ANSWER_TIMEOUT_S
            )
        except TimeoutError as error:
            raise Blocking(f"no answer within {ANSWER_TIMEOUT_S:g} s", "database") from error
        return found

    def check(self) -> None:
        """Connect and create missing tables; raises as `write` does."""
        self._guarded(self._connected)

    def close(self) -> None:
        """Give the connections back."""
        if self._engine is not None:
            self._engine.dispose()

    def _write(self, upserts: Sequence[Upsert], origins: Sequence[object]) -> None:
        reasons = self._guarded(lambda: self._all_at_once(upserts, origins))
        if reasons:
            raise UpsertsRejected(reasons)

    def _guarded(self, work: Any) -> Any:
        try:
            return work()
        except (SQLAlchemyError, *BIND_ERRORS, OSError) as error:
            raise Blocking(reason_of(error), "database") from error
        except ImportError as error:
            raise Blocking(
                f"HARDPARTS_DATABASE_URL names a driver that isn't installed: {error}", "database"
            ) from error
        except (ValueError, TypeError) as error:  # what they say may be a part of the password
            why = f"HARDPARTS_DATABASE_URL can't be used: {type(error).__name__}"
            raise Blocking(why, "database") from None

    def _connected(self) -> Engine:
        with self._connecting:  # each unit writes in a thread of its own
            if self._engine is None:
                self._engine = _engine(make_url(self._url))
            if not self._ready and self._metadata is not None:
                self._create_tables(self._engine, self._metadata)
                self._ready = True
            return self._engine

    @staticmethod
    def _create_tables(engine: Engine, metadata: MetaData) -> None:
        try:
            metadata.create_all(engine)
        except SQLAlchemyError:  # another worker may have been quicker: then they are there the second time
            metadata.create_all(engine)

    def _all_at_once(self, upserts: Sequence[Upsert], origins: Sequence[object]) -> dict[int, Refusal]:
        engine, written = self._connected(), []
        try:
            with engine.begin() as connection:
                for _, run in groupby(upserts, key=shape_of):  # rows of one statement, in order, in one call
                    same = list(run)
                    connection.execute(self._statement(same[0]), [dict(upsert.values) for upsert in same])
                    written.append(same[-1])
        except Exception as error:
            if self._met(error, upserts[0]) is None:  # for any of them: it is about no row
                raise
            reasons = self._offenders(engine, upserts, origins)
            if not reasons:  # each row is fine by itself, so nothing is written and no record can be blamed
                raise
            return reasons
        self._refusals.passed(written)
        return {}

    def _offenders(self, engine: Engine, upserts: Sequence[Upsert], origins: Sequence[object]) -> dict[int, Refusal]:
        """Which rows the database refuses, each tried in a savepoint of a transaction that is rolled back."""
        with engine.connect() as connection:

            def tried(upsert: Upsert) -> Met | None:
                savepoint = connection.begin_nested()
                try:
                    connection.execute(self._statement(upsert), dict(upsert.values))
                    savepoint.commit()
                except Exception as error:
                    savepoint.rollback()
                    met = self._met(error, upsert)
                    if met is None:
                        raise
                    return met
                return None

            found = {at: met for at, upsert in enumerate(upserts) if (met := tried(upsert)) is not None}
            judged = self._refusals.judge(upserts, found, origins, tried)
            connection.rollback()
        return judged

    def _met(self, error: Exception, upsert: Upsert) -> Met | None:
        assert self._metadata is not None  # or the statement would not have been made
        return met_by(error, upsert, self._metadata.tables[upsert.table])

    def _erase(self, columns: set[str], key: str, dry_run: bool, found: dict[str, int]) -> None:
        with self._connected().begin() as connection:
            for table in self._metadata.sorted_tables if self._metadata is not None else ():
                same = [_is(column, key) for column in table.columns if column.name in columns]
                if same:
                    found[table.name] = connection.execute(
                        select(func.count()).select_from(table).where(or_(*same))
                    ).scalar_one()
                    if not dry_run:
                        connection.execute(table.delete().where(or_(*same)))

    def _statement(self, upsert: Upsert) -> Any:
        if self._metadata is None or upsert.table not in self._metadata.tables:
            raise Misconfigured(f"the application declares no SQL table {upsert.table!r}: add it to its read model")
        table = self._metadata.tables[upsert.table]
        dialect: Any = postgresql if self._url.startswith("postgresql") else sqlite
        statement = dialect.insert(table)
        keys = list(table.primary_key.columns)
        if not upsert.greatest:
            return statement.on_conflict_do_nothing(index_elements=keys)
        larger = func.greatest if dialect is postgresql else func.max
        newer = {name: larger(table.c[name], statement.excluded[name]) for name in upsert.greatest}
        return statement.on_conflict_do_update(index_elements=keys, set_=newer)


def tables_of(metadata: MetaData | None) -> Tables:
    """What a row of each declared table must have."""
    found = {}
    for name, table in (metadata.tables if metadata is not None else {}).items():
        columns = list(table.columns)
        filled_in = {table.autoincrement_column} if table.autoincrement_column is not None else set()
        needed = [one.key for one in columns if not one.nullable and not _has_default(one) and one not in filled_in]
        key = [one.key for one in table.primary_key.columns]
        found[name] = Columns(frozenset(one.key for one in columns), frozenset(key), frozenset(needed))
    return Tables(found)


def _has_default(column: Column[Any]) -> bool:
    return any(one is not None for one in (column.default, column.server_default, column.computed, column.identity))


def _is(column: Column[Any], key: str) -> Any:
    """The condition that a column holds this key; as text where it isn't text, so that an index serves the others."""
    return column == key if isinstance(column.type, String) else column.cast(String) == key


def _engine(url: URL) -> Engine:
    options: dict[str, Any] = {"pool_pre_ping": True, "hide_parameters": True}
    if url.get_backend_name() == "postgresql":
        options["connect_args"] = limits_of(url)
    engine = create_engine(url, **options)
    if url.get_backend_name() == "sqlite":  # pysqlite begins nothing before a savepoint: what is probed would stay
        event.listen(engine, "connect", _begin_nothing)
        event.listen(engine, "begin", _begin)
    return engine


def limits_of(url: URL) -> dict[str, Any]:
    """How long a silent server may keep us, where the URL says nothing else; libpq's words."""
    limits: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "tcp_user_timeout": SILENCE_MAX_S * 1000,
        "keepalives_idle": KEEPALIVE_S,
        "keepalives_interval": KEEPALIVE_S,
    }
    limits = {name: limit for name, limit in limits.items() if name not in url.query}
    given = url.query.get("options", os.environ.get("PGOPTIONS", ""))
    others = given if isinstance(given, str) else " ".join(given)
    limits["options"] = f"-c statement_timeout={SILENCE_MAX_S * 1000} {others}".strip()  # the last of two counts
    return limits


def _begin_nothing(connection: Any, _record: object) -> None:
    connection.isolation_level = None


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # SQLite may not wait for a lock that a reader asks for later


async def in_thread(work: Callable[[], None]) -> None:
    """`work` in a thread that the end of the process doesn't wait for, unlike an executor's."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.done():  # nobody waits any more
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        failure: BaseException | None = None
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, failure)

    threading.Thread(target=run, name="hardparts-database", daemon=True).start()
    await done
