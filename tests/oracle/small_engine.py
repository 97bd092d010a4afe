"""A second, naive engine for the oracle's own tests: it writes the logs that a right run leaves, or plants a bug.

It is written from the formats, record by record, with a list for each topic; only the verdict on which input is valid
is shared with the oracle (that one has tests of its own).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

from tests.oracle.compare import Observed
from tests.oracle.generator import Made
from tests.oracle.records import (
    COMMENT_COUNTS,
    MESSAGES,
    NOTIFICATIONS,
    OUTPUTS,
    SOURCES,
    Headers,
    Record,
    partition_of,
)
from tests.oracle.validity import Event, Invalid, as_event
from tests.oracle.views import fold_rows

Logs = dict[str, dict[int, list[Record]]]
ERRORS, CHANGELOG, AUDIT = "hardparts.errors", "hardparts-user-events-changelog", "hardparts.audit"
OUTPUT_PARTITIONS = 3


def placed(records: Iterable[Made], partitions: int) -> Logs:
    """The input topics as Kafka would hold them."""
    logs: Logs = {topic: {p: [] for p in range(partitions)} for topic in SOURCES}
    for made in records:
        partition = partition_of(made.key, partitions) if made.key is not None else 0
        log = logs[made.topic][partition]
        log.append(Record(made.topic, partition, len(log), made.key, made.value, made.headers))
    return logs


@dataclass
class SmallEngine:
    """`run` leaves its topics in `logs`. Plants: dedup off; a rejected msg_id marked as seen."""

    partitions: int
    dedup: bool = True
    mark_rejected: bool = False
    logs: Logs = field(default_factory=dict)

    def run(self, inputs: Logs) -> SmallEngine:
        """Process both topics, partition by partition."""
        self.logs = {topic: {p: [] for p in range(OUTPUT_PARTITIONS)} for topic in (*OUTPUTS, ERRORS, AUDIT)}
        self.logs[CHANGELOG] = {p: [] for p in range(self.partitions)}
        for partition in range(self.partitions):
            rows: dict[bytes, bytes] = {}
            self._append(CHANGELOG, partition, b"_fence:1", b"owner")
            for topic in SOURCES:
                for record in inputs[topic][partition]:
                    self._record(record, rows)
        return self

    def observed(self) -> Observed:
        """What a judge would read; the RocksDB view is the changelog's, as after a clean stop."""
        views: list[dict[int, dict[bytes, bytes]]] = []
        for _ in range(2):
            view: dict[int, dict[bytes, bytes]] = {p: {} for p in range(self.partitions)}
            for partition, records in self.logs[CHANGELOG].items():
                fold_rows(records, view[partition])
            views.append(view)
        return Observed(
            {topic: self.logs[topic] for topic in OUTPUTS},
            self.logs[ERRORS],
            {"changelog": views[0], "RocksDB": views[1]},
            self.logs[AUDIT],
        )

    def _record(self, record: Record, rows: dict[bytes, bytes]) -> None:
        try:
            event = as_event(record)
        except Invalid as reason:
            self._reject(record, str(reason), rows)
            return
        body = json.dumps([event.type, event.data]).encode()
        mark = f"_marks\x00{event.user}\x00{event.msg_id}".encode()
        if self.dedup and mark in rows:
            if rows[mark] != body:
                self._append(AUDIT, 0, record.key, record.value, _coordinates(record))
            return
        changes = {**self._apply(event, rows), mark: body}
        for key, value in changes.items():
            self._append(CHANGELOG, record.partition, key, value)
        fold_rows([Record("", 0, 0, key, value) for key, value in changes.items()], rows)

    def _reject(self, record: Record, reason: str, rows: dict[bytes, bytes]) -> None:
        kept = tuple(header for header in record.headers if not header[0].startswith("hp-"))
        headers = (*kept, *_coordinates(record), ("hp-error-message", reason.encode()))
        self._append(ERRORS, record.offset % OUTPUT_PARTITIONS, record.key, record.value, headers)
        if self.mark_rejected and record.key and record.value:
            rows[b"_marks\x00%s\x00%s" % (record.key, _readable_id(record.value))] = b""

    def _apply(self, event: Event, rows: dict[bytes, bytes]) -> dict[bytes, bytes | None]:
        user, data = event.user, event.data
        if event.type == "comment.created":
            count = int(rows.get(f"comments\x00{user}".encode(), b"0")) + 1
            counted = {"user_id": data["user_id"], "count": count}
            self._publish(COMMENT_COUNTS, "comment-counted", event, user, counted)
            return {f"comments\x00{user}".encode(): b"%d" % count}
        if event.type == "message.sent":
            if f"follows\x00{user}\x00{str(data['to']).lower()}".encode() in rows:
                self._publish(MESSAGES, "message-accepted", event, user, dict(data))
            else:
                self._notify(event, data["user_id"], f"You are not following {data['to']}")
            return {}
        if event.type == "team.joined":
            self._notify(event, data["user_id"], "Welcome")
            return {}
        row = f"follows\x00{user}\x00{str(data['followee_id']).lower()}".encode()
        if event.type == "user.unfollowed":
            return {row: None}
        self._notify(event, data["followee_id"], "A new follower")
        return {row: b"1"}

    def _notify(self, cause: Event, recipient: int | str, text: str) -> None:
        data = {"user_id": recipient, "text": text}
        self._publish(NOTIFICATIONS, "notification-requested", cause, str(recipient).lower(), data)

    def _publish(self, topic: str, name: str, cause: Event, key: str, data: Mapping[str, Any]) -> None:
        msg_id = str(uuid5(UUID(cause.msg_id), f"user-events/{name}"))
        output = {"msg_id": msg_id, "type": name.replace("-", "."), "data": data}
        if cause.meta is not None:
            output["meta"] = cause.meta
        partition = partition_of(key.encode(), OUTPUT_PARTITIONS)
        self._append(topic, partition, key.encode(), json.dumps(output).encode())

    def _append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> None:
        log = self.logs[topic][partition]
        log.append(Record(topic, partition, len(log), key, value, headers))


def _coordinates(record: Record) -> Headers:
    return (
        ("hp-source-topic", record.topic.encode()),
        ("hp-source-partition", str(record.partition).encode()),
        ("hp-source-offset", str(record.offset).encode()),
    )


def _readable_id(value: bytes) -> bytes:
    at = value.find(b'"msg_id":"') + len(b'"msg_id":"')
    return value[at : at + 36]
