"""Whose fault it is that the database refuses a row: the record's, the handler's, or the database's own.

The rule, for each row that is refused when it is tried by itself:

1. A value that the driver can't bind is the handler's (a set, an object), or the record's when only its content is odd
   (NUL in a text, a lone surrogate, a number too large). A value that breaks the table as the application *declares* it
   (None where it says not null, a text longer than its column, an integer out of its range) is the record's.
2. NOT NULL on a column that the row doesn't have is the database's: no record can satisfy it.
3. Anything else (a check, a unique index, a foreign key, a missing partition, a length that isn't the declared one, a
   trigger that raises) depends on what else is refused. While other rows of the same shape (table and columns) pass in
   the same batch, it is the record's. If a row that was written before is refused for the same reason now, it is the
   database's. Else nobody can tell: up to REFUSALS_MAX records that are refused for the same reason, with no row of
   that shape written in between, are taken for bad records; from the next on it is the database's.

The record's go to the error topic. The database's block with the reason `database`: nothing is written or skipped from
that record on, and the partition goes on by itself when the row is taken. So do failures of the statement (permission,
a table or column that is gone, read-only). One that isn't about a row at all (connection, resources, disk full) blocks
the batch.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Literal, NamedTuple

from sqlalchemy import BigInteger, Integer, SmallInteger, String, Table
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError, StatementError

from pipeline.core.agent import Definition
from pipeline.core.effects import Upsert
from pipeline.core.outcome import Blocked, Rejected, Rejection
from pipeline.core.record import Record
from pipeline.core.settle import as_bug
from pipeline.core.tables import SHAPES_MAX, shape_of

REFUSALS_MAX = 3
"""One may be a bad record, and three one sender that repeats itself; more of them with nothing good in between are
likelier a change of the schema. Each costs a replay. A worker that is started again counts anew."""

Fault = Literal["record", "handler", "database"]
CONTENT = ("22021", "22P05")
"""SQLSTATEs of texts that no column takes: wrong UTF-8, characters that can't be translated."""
ABOUT_A_ROW = ("22", "23", "44", "P0")
"""Classes of SQLSTATE: data, integrity, a view's check option, raised by a function (a trigger)."""
BITS = ((SmallInteger, 16), (BigInteger, 64), (Integer, 32))


class Refusal(NamedTuple):
    """Why a row isn't taken, in one line, and whose fault that is."""

    fault: Fault
    reason: str


class Met(NamedTuple):
    """What one row met. kind, about: equal for rows that the same rule refuses. fault: None when the error alone
    doesn't say.
    """

    kind: str
    about: str
    reason: str
    fault: Fault | None


def became(record: Record, refusal: Refusal, agent: Definition) -> Rejected | Blocked:
    """What becomes of a record with such a row."""
    if refusal.fault == "database":
        return Blocked(record, "database", refusal.reason)
    if refusal.fault == "handler":
        return as_bug(record, agent, "DataRefused", refusal.reason)
    return Rejected(record, Rejection("DataRefused", refusal.reason))


def met_by(error: Exception, upsert: Upsert, table: Table) -> Met | None:
    """What the row met; None when the failure isn't about this row. What is unknown isn't."""
    reason = reason_of(error)
    if not isinstance(error, DBAPIError):
        return _unbindable(error, reason)
    if error.connection_invalidated or isinstance(error, OperationalError):
        return None
    driver = error.orig
    state = str(getattr(driver, "sqlstate", None) or "")
    if state:
        if state[:2] not in ABOUT_A_ROW:
            return Met(state, "", reason, "database")
        diagnosis = getattr(driver, "diag", None)
        column = getattr(diagnosis, "column_name", None) or ""
        about = getattr(diagnosis, "constraint_name", None) or column
        return _met(state, about, reason, upsert, table, column if state == "23502" else "", state in CONTENT)
    if any(word in str(driver) for word in ("binding parameter", "cannot adapt")):  # sqlite3's, psycopg's
        return Met("unbindable", "", reason, "handler")
    if not isinstance(error, IntegrityError | DataError):
        return None
    kind = getattr(driver, "sqlite_errorname", type(driver).__name__)
    about = str(driver).partition(": ")[2] if kind.startswith("SQLITE_CONSTRAINT") else ""
    column = about.rpartition(".")[2] if kind.endswith("NOTNULL") else ""
    return _met(kind, about, reason, upsert, table, column, not kind.startswith(("SQLITE_CONSTRAINT", "SQLITE_MISM")))


def _unbindable(error: Exception, reason: str) -> Met | None:
    """A value that can't be made ready for the driver, or that the driver fails on in a way of its own."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, OverflowError | UnicodeError):
        return Met("unbindable", "", reason, "record")
    if isinstance(error, SQLAlchemyError):
        return Met("unbindable", "", reason, "handler") if isinstance(error, StatementError) else None
    return None if isinstance(error, OSError | ImportError | MemoryError) else Met("unbindable", "", reason, "handler")


def _met(kind: str, about: str, reason: str, upsert: Upsert, table: Table, null_in: str, content: bool) -> Met:
    """null_in: the column that NOT NULL is about. content: whether the value's content alone is at fault."""
    if content or _breaks_declared(upsert, table):
        return Met(kind, about, reason, "record")
    if null_in and null_in not in {table.columns[name].name for name in upsert.values}:
        return Met(kind, about, f"{reason} (this application doesn't write that column)", "database")
    return Met(kind, about, reason, None)


def _breaks_declared(upsert: Upsert, table: Table) -> bool:
    """Whether a value doesn't fit its column as the application declares it."""
    for name, value in upsert.values.items():
        column = table.columns[name]
        if value is None and not column.nullable:
            return True
        length = column.type.length if isinstance(column.type, String) else None
        if length is not None and isinstance(value, str) and len(value) > length:
            return True
        bits = next((bits for kind, bits in BITS if isinstance(column.type, kind)), None)
        if bits is not None and isinstance(value, int) and not -(1 << bits - 1) <= value < 1 << bits - 1:
            return True
    return False


class Refusals:
    """What a worker remembers of rows taken and refused, over all its units."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # each unit writes in a thread of its own
        self._streaks: dict[tuple[object, ...], set[object]] = {}  # at most REFUSALS_MAX + 1 places each
        self._written: dict[tuple[object, ...], Upsert] = {}

    def passed(self, runs: Iterable[Upsert]) -> None:
        """These rows, one of each shape, are written."""
        with self._lock:
            for upsert in runs:
                shape = shape_of(upsert)
                if len(self._written) >= SHAPES_MAX:
                    self._written.clear()
                self._written[shape] = upsert
                if self._streaks:
                    self._streaks = {streak: places for streak, places in self._streaks.items() if streak[0] != shape}

    def judge(
        self,
        upserts: Sequence[Upsert],
        found: Mapping[int, Met],
        origins: Sequence[object],
        tried: Callable[[Upsert], Met | None],
    ) -> dict[int, Refusal]:
        """Position → verdict, for each position in `found`.

        origins: the outcome of the record that each row is of. tried: what a row meets when it is tried now.
        """
        passing = {shape_of(upsert) for position, upsert in enumerate(upserts) if position not in found}
        judged: dict[int, Refusal] = {}
        open_: dict[tuple[object, ...], list[int]] = {}
        for position, met in found.items():
            shape = shape_of(upserts[position])
            if met.fault is not None or shape in passing:
                judged[position] = Refusal(met.fault or "record", met.reason)
            else:
                open_.setdefault((shape, met.kind, met.about), []).append(position)
        for streak, positions in open_.items():
            fault = self._fault(streak, {_place(origins[position]) for position in positions}, tried)
            for position in positions:
                table, reason = upserts[position].table, found[position].reason
                said = f"{reason} (no row for {table} passes)" if fault == "database" else reason
                judged[position] = Refusal(fault, said)
        return dict(sorted(judged.items()))

    def _fault(self, streak: tuple[object, ...], places: set[object], tried: Callable[[Upsert], Met | None]) -> Fault:
        shape, *reason = streak
        with self._lock:
            before = self._written.get(shape)  # type: ignore[call-overload]  # a shape
        met = tried(before) if before is not None else None
        changed = met is not None and [met.kind, met.about] == reason
        with self._lock:
            refused = self._streaks.setdefault(streak, set())
            refused.update(islice(places - refused, REFUSALS_MAX + 1 - len(refused)))
            return "database" if changed or len(refused) > REFUSALS_MAX else "record"


def _place(origin: object) -> object:
    """Equal whenever the same record is judged: a write whose answer is lost is tried again, and so is a batch after a
    rebalance. An origin without a record stands for itself.
    """
    record = getattr(origin, "record", None)
    return (record.topic, record.partition, record.offset) if record is not None else origin


def reason_of(error: BaseException) -> str:
    """What the driver said, in one line, without the statement's data."""
    cause = getattr(error, "orig", None) or error
    first_line = str(cause).strip().splitlines()[:1]
    return f"{type(cause).__name__}: {first_line[0] if first_line else ''}"[:300]
