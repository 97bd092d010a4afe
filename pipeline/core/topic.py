"""A topic as the catalogue declares it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pipeline.core.errors import Misconfigured
from pipeline.core.routing import PARTITIONERS, PartitionerName


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
    partitioner: PartitionerName = "murmur2"

    def __post_init__(self) -> None:
        if self.partitioner not in PARTITIONERS:
            known = ", ".join(PARTITIONERS)
            raise Misconfigured(f"topic {self.name!r} has partitioner={self.partitioner!r}: choose one of {known}")

    @property
    def ordered(self) -> bool:
        """Whether the records of one key stay in order."""
        return self.key is not None


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
        return "murmur2" if known is None else known.partitioner

    def __iter__(self) -> Iterator[Topic]:
        return iter(self.topics.values())
