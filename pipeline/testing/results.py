"""What came out of an agent, as tests read it."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from pipeline.core.record import StoredRecord


class Published(NamedTuple):
    """One output event, decoded. key: the record key as text."""

    topic: str
    partition: int
    key: str | None
    type: str
    msg_id: str
    data: dict[str, Any]
    meta: dict[str, Any] | None
    headers: tuple[tuple[str, bytes], ...]


class RejectedRecord(NamedTuple):
    """One error record. key, value: the original bytes. hp: our headers as text, without the `hp-` prefix."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    hp: Mapping[str, str]

    @property
    def reason(self) -> str:
        """Class, message and explanation, one after another."""
        return "\n".join((f"{self.hp['error-class']}: {self.hp['error-message']}", self.hp["error-explain"])).strip()


def published(record: StoredRecord) -> Published:
    """An output record as an event."""
    event = orjson.loads(record.value or b"{}")
    key = None if record.key is None else record.key.decode()
    return Published(
        record.topic,
        record.partition,
        key,
        event["type"],
        event["msg_id"],
        event["data"],
        event.get("meta"),
        record.headers,
    )


def rejected(record: StoredRecord) -> RejectedRecord:
    """An error record with its headers told apart."""
    ours = {name[3:]: value.decode() for name, value in record.headers if name.startswith("hp-")}
    theirs = tuple(header for header in record.headers if not header[0].startswith("hp-"))
    return RejectedRecord(record.key, record.value, theirs, ours)


def first_occurrences(records: Iterable[StoredRecord]) -> list[StoredRecord]:
    """Outputs without physical repeats, which a redo writes under the same msg_id; AssertionError when one differs."""
    seen: dict[tuple[str, str], StoredRecord] = {}
    for record in records:
        msg_id = orjson.loads(record.value or b"{}")["msg_id"]
        first = seen.setdefault((record.topic, msg_id), record)
        if (first.key, first.value, first.partition) != (record.key, record.value, record.partition):
            raise AssertionError(
                f"a repeat of {msg_id} on {record.topic} is another: {first.value!r}, then {record.value!r}"
            )
    return list(seen.values())
