"""The door: what a request brings is judged as a worker will judge it, before anything is taken."""

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import orjson

from pipeline.contracts import Contract, Malformed, Refused, parse
from pipeline.core.topic import Topic
from pipeline.runtime.app import App

RECORD_BYTES_MAX = 1_000_000
"""The producer's largest record batch; a broker's default limit is a little above."""
OVERHEAD_BYTES = 200
"""Header of a record batch, and the framing of the one record in it."""
_WHITE_SPACE = b" \t\r\n"


class Taken(NamedTuple):
    """An event that may pass: its record's key (None: the topic has none) and value."""

    key: bytes | None
    value: bytes


class Turned(NamedTuple):
    """Why an event may not pass: a name that stays the same, and lines for people."""

    kind: str
    explain: tuple[str, ...]


class Door:
    """The way into one topic."""

    def __init__(self, topic: Topic, contract: Contract) -> None:
        self.topic, self.contract = topic, contract
        declared = int(dict(topic.config).get("max.message.bytes", RECORD_BYTES_MAX))
        self.record_bytes_max = min(declared, RECORD_BYTES_MAX) - OVERHEAD_BYTES

    def judge(self, raw: bytes) -> Taken | Turned:
        """One event, as bytes. `TooLarge`: Kafka would refuse it; otherwise kinds and lines are those of a worker."""
        decoded = self.contract.decode(raw)
        if isinstance(decoded, Refused):
            return Turned(decoded.kind, decoded.explain or (decoded.message,))
        key = self._key(decoded.data)
        if isinstance(key, Turned):
            return key
        size = len(raw) + len(key or b"")
        if size > self.record_bytes_max:
            return Turned("TooLarge", (f"an event of {size} bytes with its key: Kafka takes {self.record_bytes_max}",))
        return Taken(key, raw)

    def _key(self, data: dict[str, Any]) -> bytes | Turned | None:
        """The record key: in lower case, since ids that differ in case only are the same id, and must meet."""
        field = self.topic.key
        if field is None:
            return None
        if field not in data:
            return Turned("BadKey", (f"data.{field} is missing: it is the record key",))
        key = str(data[field]).lower()
        if "\0" in key:
            return Turned("BadKey", (f"data.{field} has a NUL, and is the record key",))
        return key.encode()


def split(body: bytes) -> list[bytes]:
    """The events of a body: one, or a JSON list of them. Raises Malformed for a list that isn't strict JSON."""
    body = body.strip(_WHITE_SPACE)
    if not body.startswith(b"["):
        return [body]
    return [orjson.dumps(event) for event in parse(body).value]


def doors(app: App) -> dict[str, Door]:
    """topic → its door: every topic of the catalogue with a contract that no agent of the application writes."""
    written = {topic.name for definition in app.declared for topic in definition.outputs}
    open_: Iterable[Topic] = (topic for topic in app.catalogue if topic.name not in written)
    return {
        topic.name: Door(topic, cast(Contract, app.contracts[topic.name]))
        for topic in open_
        if topic.name in app.contracts
    }


__all__ = ["Door", "Malformed", "Taken", "Turned", "doors", "split"]
