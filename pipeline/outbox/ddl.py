"""The table as SQL, for each database; an application's migrations may hold it."""

from pipeline.core.errors import Misconfigured
from pipeline.outbox.name import TableName

_POSTGRESQL = """\
CREATE TABLE {table} (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- without CACHE: ids must grow as commits do
    topic    text NOT NULL,
    key      text,                                -- rows of one key stay in order; NULL: any partition, no order
    value    text,                                -- NULL: a tombstone, which needs a key
    headers  text,                                -- a JSON object of texts, or NULL
    created  timestamptz NOT NULL DEFAULT now(),
    sent     timestamptz,                         -- what follows is the relay's: when Kafka confirmed it
    failed   timestamptz,                         -- when Kafka refused it for good
    failure  text,                                -- and why
    attempts integer NOT NULL DEFAULT 0           -- how often
);
"""
_SQLITE = """\
CREATE TABLE {table} (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    topic    TEXT NOT NULL,
    key      TEXT,                                -- rows of one key stay in order; NULL: any partition, no order
    value    TEXT,                                -- NULL: a tombstone, which needs a key
    headers  TEXT,                                -- a JSON object of texts, or NULL
    created  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    sent     TEXT,                                -- what follows is the relay's: when Kafka confirmed it
    failed   TEXT,                                -- when Kafka refused it for good
    failure  TEXT,                                -- and why
    attempts INTEGER NOT NULL DEFAULT 0           -- how often
);
"""
_INDEXES = """\
CREATE INDEX {unsent} ON {table} (id) WHERE sent IS NULL AND failed IS NULL;
CREATE INDEX {failed} ON {table} (id) WHERE failed IS NOT NULL;
CREATE INDEX {sent} ON {table} (sent) WHERE sent IS NOT NULL;
"""
_TABLES = {"postgresql": _POSTGRESQL, "sqlite": _SQLITE}
DIALECTS = tuple(_TABLES)


def ddl(dialect: str, name: TableName) -> str:
    """Statements that create the table and its indexes. Raises Misconfigured for other databases."""
    if dialect not in _TABLES:
        raise Misconfigured(f"an outbox is in PostgreSQL or SQLite, not in {dialect}")
    if dialect == "sqlite" and name.schema:
        raise Misconfigured(f"HARDPARTS_OUTBOX_TABLE: SQLite has no schemas: write {name.table}")
    indexes = {what: name.index_of(what) for what in ("unsent", "failed", "sent")}
    return (_TABLES[dialect] + _INDEXES).format(table=name.quoted, **indexes)
