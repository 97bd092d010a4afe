"""A topic as the catalogue declares it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.errors import Misconfigured
from pipeline.core.routing import DEFAULT, PARTITIONERS, PartitionerName

_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of the catalogue.

    name: as on the broker. key: the field of `data` that the record key repeats as text; None for an unkeyed topic,
    whose records are in no order (without a record key, `event.key` is the msg_id). owner: the team or agent that
    writes it. partitions: None for the setting's. compacted: keeps the last record of each key. retention_ms: None for
    the broker's default.

    partitioner: which hash of the key its producers use. `murmur2`, Java's, is what ours use; `crc32` is librdkafka's
    default (Python, Go, .NET, Node), consistent_random. A record in another partition is rejected (WrongPartition).
    `any`: each writer's own choice, unchecked; not for an agent with state, since nothing says where a key's rows are.
    """

    name: str
    key: str | None = "user_id"
    owner: str = ""
    partitions: int | None = None
    compacted: bool = False
    retention_ms: int | None = None
    config: tuple[tuple[str, str], ...] = ()
    partitioner: PartitionerName = DEFAULT

    def __post_init__(self) -> None:
        """Misconfigured for what no broker could serve: types are checked too, since nobody has to run mypy."""
        given: Any = self
        if not isinstance(given.name, str) or not _NAME.fullmatch(self.name) or self.name in (".", ".."):
            raise Misconfigured(
                f"a topic's name has 1 to 249 letters, digits, '.', '_' and '-', not {self.name!r:.100}"
            )
        where = f"topic {self.name!r}"
        if self.key is not None and not (isinstance(given.key, str) and self.key):
            raise Misconfigured(f"{where}: key is the name of a field of data, or None, not {self.key!r:.100}")
        if not isinstance(self.owner, str):
            raise Misconfigured(f"{where}: owner is a text, not {self.owner!r:.100}")
        if self.partitions is not None and not (type(self.partitions) is int and self.partitions > 0):
            raise Misconfigured(f"{where}: partitions is a number from 1, or None, not {self.partitions!r:.100}")
        if not isinstance(self.compacted, bool):
            raise Misconfigured(f"{where}: compacted is True or False, not {self.compacted!r:.100}")
        if self.retention_ms is not None and not (type(self.retention_ms) is int and self.retention_ms >= -1):
            raise Misconfigured(f"{where}: retention_ms is a number from -1, or None, not {self.retention_ms!r:.100}")
        if not isinstance(given.config, tuple) or not all(map(_is_setting, self.config)):
            raise Misconfigured(f'{where}: config is pairs of texts, (("max.message.bytes", "2000000"),)')
        if self.partitioner not in PARTITIONERS:
            known = ", ".join(PARTITIONERS)
            raise Misconfigured(f"{where} has partitioner={self.partitioner!r}: choose one of {known}")

    @property
    def ordered(self) -> bool:
        """Whether the records of one key stay in order."""
        return self.key is not None


def _is_setting(pair: object) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, str) for part in pair)


def cleanup_policies(config: Mapping[str, str]) -> frozenset[str]:
    """What the broker does with old records, by a topic's settings in force: `compact`, `delete` or both."""
    return frozenset(part.strip() for part in config.get("cleanup.policy", "delete").split(","))


@dataclass(slots=True)
class Catalogue:
    """Every topic that the agents read or write, once each."""

    topics: dict[str, Topic] = field(default_factory=dict)

    @classmethod
    def of(cls, topics: Iterable[Topic]) -> "Catalogue":
        """A catalogue of these topics; Misconfigured when a name is declared twice."""
        catalogue = cls()
        for topic in topics:
            catalogue.add(topic)
        return catalogue

    def add(self, topic: Topic) -> Topic:
        """Declare one more topic."""
        given: Any = topic
        if not isinstance(given, Topic):
            raise Misconfigured(f"a catalogue is made of Topic(…), not {given!r:.100}")
        known = self.topics.setdefault(topic.name, topic)
        if known is not topic:
            raise Misconfigured(f"topic {topic.name!r} is declared twice in the catalogue: keep one declaration")
        return topic

    def require(self, topic: Topic, who: str) -> None:
        """Misconfigured unless `topic` is declared here."""
        if self.topics.get(topic.name) != topic:
            raise Misconfigured(f"{who} uses topic {topic.name!r}, which the catalogue doesn't declare: add it there")

    def partitioner(self, topic: str) -> PartitionerName:
        """The declared partitioner of a topic, by name; murmur2 for one that isn't declared here."""
        known = self.topics.get(topic)
        return DEFAULT if known is None else known.partitioner

    def __iter__(self) -> Iterator[Topic]:
        return iter(self.topics.values())
