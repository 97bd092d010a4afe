"""A database outage that is real: another connection holds the read model's file exclusively.

Every write of the workers then fails with `database is locked`, a dependency's failure and not a record's, so it
blocks. The operating system ends the lock with this process, however it ends.
"""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.core.errors import HardpartsError

BUSY_S = 2.0
"""How long a worker waits for the lock before it calls the database blocked: longer than the others' writes take."""

LOCK_WITHIN_S = 10.0


def database_url(file: Path) -> str:
    """The read model's URL for the workers."""
    return f"sqlite:///{file}?timeout={BUSY_S}"


def make_database(file: Path) -> None:
    """An empty database with a write-ahead log: several workers writing to one file wait less for each other."""
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = WAL")


class NotAway(HardpartsError):
    """The outage couldn't be made."""


class Outage:
    """`async with Outage(file)`: nobody else can write to the database inside the block."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        self._connection = await asyncio.to_thread(self._lock)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Give the database back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _lock(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=LOCK_WITHIN_S, isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN EXCLUSIVE")
        return connection
