"""One active relay a table: what it holds while it is active, and what tells others that it is."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, text

from pipeline.outbox.name import TableName

NAMESPACE = 0x0B0C
"""Tells our advisory locks from an application's own, which have other first numbers, or just one."""


class Lock(Protocol):
    """Held until `release`, or until its holder ends, however it ends."""

    def take(self, connection: Connection) -> bool:
        """Whether it is ours now; it may have been before. Doesn't wait."""

    def held(self, connection: Connection) -> bool:
        """Whether anybody has it."""

    def release(self) -> None:
        """Give it up, if that isn't the database's business when the connection ends."""


class AdvisoryLock:
    """PostgreSQL's, on the connection that reads and marks: who loses the one loses the other."""

    def __init__(self, name: TableName) -> None:
        self._name = name.quoted
        self._taken_on: Connection | None = None

    def take(self, connection: Connection) -> bool:
        """As Lock says."""
        if self._taken_on is not connection:
            statement = text("SELECT pg_try_advisory_lock(:namespace, :table)")
            found = connection.execute(statement, {"namespace": NAMESPACE, "table": self._table(connection)})
            self._taken_on = connection if found.scalar_one() else None
        return self._taken_on is connection

    def held(self, connection: Connection) -> bool:
        """As Lock says."""
        statement = text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND classid = CAST(:namespace AS bigint)::oid AND objid = CAST(:table AS regclass)::oid"
        )
        found = connection.execute(statement, {"namespace": NAMESPACE, "table": self._name})
        return bool(found.scalar_one())

    def release(self) -> None:
        """As Lock says: the server does, when the connection ends."""
        self._taken_on = None

    def _table(self, connection: Connection) -> int:
        """The table's oid as the signed integer that the function takes."""
        statement = text("SELECT CAST(CAST(:table AS regclass)::oid AS bigint)")
        oid = int(connection.execute(statement, {"table": self._name}).scalar_one())
        return oid - (1 << 32) if oid >= 1 << 31 else oid


class FileLock:
    """For SQLite: a file beside the database. The operating system's lock, so a killed relay leaves none behind."""

    def __init__(self, database: Path, name: TableName) -> None:
        self._path = database.with_name(f"{database.name}-{name.table}.lock")
        self._file = -1

    def take(self, connection: Connection) -> bool:  # noqa: ARG002 - as Lock says
        """As Lock says. Raises OSError."""
        if self._file < 0:
            self._file = self._locked(fcntl.LOCK_EX)
        return self._file >= 0

    def held(self, connection: Connection) -> bool:  # noqa: ARG002 - as Lock says
        """As Lock says. Raises OSError."""
        if not self._path.exists():
            return False
        file = self._locked(fcntl.LOCK_SH)
        if file >= 0:
            os.close(file)
        return file < 0

    def release(self) -> None:
        """As Lock says."""
        if self._file >= 0:
            with suppress(OSError):
                os.close(self._file)
            self._file = -1

    def _locked(self, how: int) -> int:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return -1
        except OSError:
            os.close(file)
            raise
        return file
