"""The SQL read model of a kit: an SQLite file of its own, or the database that the test names."""

import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, create_engine, inspect, select


class ReadModel:
    """A database, alive as long as the kit, and its rows."""

    def __init__(self, metadata: MetaData | None, url: str | None) -> None:
        self._metadata = metadata
        self._directory = tempfile.TemporaryDirectory(prefix="hardparts-kit-") if url is None else None
        self.url = url or f"sqlite:///{Path(self._directory.name) / 'read-model.sqlite3'}"  # type: ignore[union-attr]

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a declared table; none while nothing has been written."""
        if self._metadata is None or table not in self._metadata.tables:
            raise AssertionError(f"the application declares no SQL table {table!r}")
        declared = self._metadata.tables[table]
        engine = create_engine(self.url)
        try:
            if not inspect(engine).has_table(table):
                return []
            with engine.connect() as connection:
                found = connection.execute(select(declared).order_by(*declared.primary_key.columns))
                return [dict(row) for row in found.mappings()]
        finally:
            engine.dispose()

    def close(self) -> None:
        """Forget it."""
        if self._directory is not None:
            self._directory.cleanup()
