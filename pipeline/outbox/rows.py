"""A row of the outbox, as the database gave it and as Kafka takes it."""

import json
from typing import Any, NamedTuple

from pipeline.core.errors import HardpartsError

TOPIC_SHOWN = 250
"""So many characters of a topic's name are read: one more than is allowed, which is enough to refuse it."""


class RowBroken(HardpartsError):
    """The row can't be a record, whatever Kafka says."""


class Waiting(NamedTuple):
    """An unsent row, without its content. bytes: of key, value and headers together."""

    id: int
    topic: str
    bytes: int


class Row(NamedTuple):
    """An unsent row. key, value and headers are text, or bytes where the column is of that kind."""

    id: int
    topic: str
    key: str | bytes | None
    value: str | bytes | None
    headers: Any


class Record(NamedTuple):
    """What is produced."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def record_of(row: Row) -> Record:
    """The record of a row. Raises RowBroken."""
    return Record(_bytes("key", row.key), _bytes("value", row.value), _headers(row.headers))


def _bytes(column: str, content: object) -> bytes | None:
    if content is None or isinstance(content, bytes):
        return content
    if not isinstance(content, str):
        raise RowBroken(f"{column} is text or bytes, not {type(content).__name__}")
    try:
        return content.encode()
    except UnicodeEncodeError as error:
        raise RowBroken(f"{column} isn't UTF-8: {error}") from None


def _headers(content: object) -> list[tuple[str, bytes]]:
    if content is None:
        return []
    if isinstance(content, str | bytes):
        try:
            content = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise RowBroken(f"headers aren't JSON: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(text, str) for text in content.values()):
        raise RowBroken("headers are a JSON object of texts")
    try:
        return [(name, text.encode()) for name, text in content.items()]
    except UnicodeEncodeError as error:
        raise RowBroken(f"headers aren't UTF-8: {error}") from None
