"""How an outbox's database is reached: a connection in autocommit, with limits on how long a silent server keeps us."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, create_engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from pipeline.core.errors import Misconfigured
from pipeline.outbox.ddl import DIALECTS
from pipeline.outbox.locks import AdvisoryLock, FileLock, Lock
from pipeline.outbox.name import TableName
from pipeline.runtime.database import limits_of

BUSY_S = 10.0
SERVER_LIMITS = (
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2 -c tcp_user_timeout=15000"
)
"""After which PostgreSQL ends our connection when we are gone without a word, and so gives the lock to the next."""


class Source:
    """A database and a table's name in it. Raises Misconfigured for what can't be an outbox."""

    def __init__(self, url: str, table: str) -> None:
        self.name = TableName.parse(table)
        parsed = _parsed(url)
        self.dialect = parsed.get_backend_name()
        options: dict[str, Any]
        if self.dialect == "postgresql":
            arguments = limits_of(parsed) | {"application_name": f"hardparts outbox {self.name.table}"}
            arguments["options"] = f"{SERVER_LIMITS} {arguments['options']}"
            options = {"connect_args": arguments}
            self.lock: Lock = AdvisoryLock(self.name)
        else:
            path = Path(str(parsed.database)).absolute()
            options = {"creator": _opener(path)}
            self.lock = FileLock(path, self.name)
        self._engine = create_engine(
            parsed, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True, **options
        )

    def connect(self) -> Connection:
        """A fresh connection: each statement is a transaction."""
        return self._engine.connect()

    @staticmethod
    def end(connection: Connection) -> None:
        """Close it without waiting for it: another thread may still use it."""

        def close() -> None:
            with suppress(Exception):
                connection.invalidate()
            with suppress(Exception):
                connection.close()

        threading.Thread(target=close, name="hardparts-outbox-close", daemon=True).start()


def dialect_of(url: str) -> str:
    """`postgresql` or `sqlite`. Raises Misconfigured."""
    return _parsed(url).get_backend_name()


def _parsed(url: str) -> URL:
    if not url:
        raise Misconfigured("HARDPARTS_OUTBOX_URL: where is the outbox? Set postgresql+psycopg://… or sqlite:///…")
    try:
        parsed = make_url(url)
        dialect = parsed.get_backend_name()
        parsed.get_dialect()
    except (ArgumentError, ImportError, ValueError):
        raise Misconfigured(
            "HARDPARTS_OUTBOX_URL is no URL of SQLAlchemy: postgresql+psycopg://… or sqlite:///…"
        ) from None
    if dialect not in DIALECTS:
        raise Misconfigured(f"HARDPARTS_OUTBOX_URL: an outbox is in PostgreSQL or SQLite, not in {dialect}")
    if dialect == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise Misconfigured("HARDPARTS_OUTBOX_URL: a database in memory is nobody else's: name a file, sqlite:///…")
    if dialect == "sqlite" and not Path(str(parsed.database)).exists():
        raise Misconfigured(f"HARDPARTS_OUTBOX_URL: there is no file {parsed.database}")
    return parsed


def _opener(path: Path) -> Callable[[], sqlite3.Connection]:
    """Opens the file, and never makes one where there is none: its disk may not be mounted.

    Text that isn't UTF-8 is read all the same, so that it is its row's fault only.
    """

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw", uri=True, timeout=BUSY_S, check_same_thread=False, isolation_level=None
        )
        connection.text_factory = lambda content: content.decode(errors="surrogateescape")
        return connection

    return connect
