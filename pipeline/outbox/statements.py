"""Every statement on an outbox table, in the words of its database. Each is one transaction of its own."""

from typing import Any

from sqlalchemy import TextClause, bindparam, text

from pipeline.outbox.name import TableName
from pipeline.outbox.rows import TOPIC_SHOWN

_UNSENT = "sent IS NULL AND failed IS NULL"
_FAILED = "failed IS NOT NULL"
_WORDS = {
    "postgresql": {
        "now": "now()",
        "bytes": "octet_length({})",
        "age": "extract(epoch FROM now() - created)::float8",
        "horizon": "now() - make_interval(secs => :keep_s)",
        "text": "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
    },
    "sqlite": {
        "now": "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
        "bytes": "length(CAST({} AS BLOB))",
        "age": "coalesce((julianday('now') - julianday(created)) * 86400.0, 0.0)",
        "horizon": "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-' || :keep_s || ' seconds')",
        "text": "{}",
    },
}


class Statements:
    """SQL for one table. Lists are bound as `ids` and `topics`, sizes as `most`."""

    def __init__(self, dialect: str, name: TableName) -> None:
        words, table = _WORDS[dialect], name.quoted
        # SQLite would rather walk the whole table in order of id, sent rows and all.
        unsent, failed = (
            (f"{table} INDEXED BY {name.index_of('unsent')}", f"{table} INDEXED BY {name.index_of('failed')}")
            if dialect == "sqlite"
            else (table, table)
        )
        sizes = " + ".join(
            f"coalesce({words['bytes'].format(column)}, 0)" for column in ("key", "value", "CAST(headers AS text)")
        )
        age, when = words["age"], words["text"].format("failed")
        topic = f"substr(topic, 1, {TOPIC_SHOWN})"
        some = f"FROM {unsent} WHERE {_UNSENT}"
        self.unsent = text(f"SELECT id, {topic}, {sizes} {some} ORDER BY id LIMIT :most")
        self.unsent_of_others = _listed(
            f"SELECT id, {topic}, {sizes} {some} AND topic NOT IN :topics ORDER BY id LIMIT :most", "topics"
        )
        self.rows = _listed(f"SELECT id, {topic}, key, value, headers FROM {table} WHERE id IN :ids ORDER BY id", "ids")
        self.mark_sent = _listed(f"UPDATE {table} SET sent = {words['now']} WHERE id IN :ids AND sent IS NULL", "ids")
        self.mark_failed = text(
            f"UPDATE {table} SET failed = {words['now']}, failure = :reason, attempts = attempts + 1 "
            "WHERE id = :id AND sent IS NULL"
        )
        self.delete_sent = text(
            f"DELETE FROM {table} WHERE id IN "
            f"(SELECT id FROM {table} WHERE sent < {words['horizon']} ORDER BY sent LIMIT :most)"
        )
        self.count_unsent = text(f"SELECT count(*) FROM (SELECT 1 {some} LIMIT :most) AS counted")
        self.count_failed = text(
            f"SELECT count(*) FROM (SELECT 1 FROM {failed} WHERE {_FAILED} LIMIT :most) AS counted"
        )
        self.oldest_s = text(f"SELECT {age} {some} ORDER BY id LIMIT 1")
        self.by_topic = text(
            f"SELECT {topic} AS name, count(*), max(age) FROM "
            f"(SELECT topic, {age} AS age {some} ORDER BY id LIMIT :most) AS counted GROUP BY name ORDER BY name"
        )
        self.failures = text(
            f"SELECT id, {topic}, key, {when}, attempts, failure FROM {failed} WHERE {_FAILED} ORDER BY id LIMIT :most"
        )
        again = f"UPDATE {table} SET failed = NULL, failure = NULL WHERE {_FAILED}"
        self.retry = text(again)
        self.retry_ids = _listed(f"{again} AND id IN :ids", "ids")
        self.retry_topic = text(f"{again} AND topic = :topic")


def _listed(statement: str, name: str) -> TextClause:
    bound: Any = bindparam(name, expanding=True)
    return text(statement).bindparams(bound)
