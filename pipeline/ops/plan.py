"""The difference between the catalogue and the cluster, as data; and which parts of it are refused (O5)."""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from pipeline.core.routing import moved_share
from pipeline.core.topic import Topic
from pipeline.runtime.admin import TopicFound
from pipeline.runtime.settings import Settings

IN_SYNC_MIN_FROM_REPLICAS = 3

Kind = Literal["missing", "config", "partitions", "replication", "unequal"]


class Wanted(NamedTuple):
    """A topic as it should be. changelog_of: the agent whose state it holds, if it is a changelog."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str]
    ordered: bool
    changelog_of: str | None = None


class Difference(NamedTuple):
    """One difference. found: "" when there is nothing. refused: why `apply` won't, and the remedy; "" when it will."""

    topic: str
    kind: Kind
    wanted: str
    found: str
    refused: str = ""

    def __str__(self) -> str:
        if self.kind == "missing":
            return f"+ {self.topic}: create, {self.wanted}"
        sign = "!" if self.refused else "~"
        return f"{sign} {self.topic}: {self.kind} {self.found} -> {self.wanted}" + (
            f"\n    refused: {self.refused}" if self.refused else ""
        )


def wanted(topic: Topic, settings: Settings, changelog_of: str | None = None) -> Wanted:
    """What the catalogue's entry means under these settings."""
    config = {"cleanup.policy": "compact" if topic.compacted else "delete"}
    if topic.retention_ms is not None:
        config["retention.ms"] = str(topic.retention_ms)
    if settings.replication >= IN_SYNC_MIN_FROM_REPLICAS:
        config["min.insync.replicas"] = "2"
    config.update(topic.config)
    partitions = topic.partitions or settings.partitions
    return Wanted(topic.name, partitions, settings.replication, config, topic.ordered, changelog_of)


def plan(
    topics: Iterable[Wanted],
    found: Mapping[str, TopicFound],
    configs: Mapping[str, Mapping[str, str]],
    force: bool = False,
) -> list[Difference]:
    """Every difference, in the order of `topics`. force: partitions are added to ordered topics too."""
    differences: list[Difference] = []
    for topic in topics:
        there = found.get(topic.name)
        if there is None:
            differences.append(Difference(topic.name, "missing", _described(topic), ""))
            continue
        harmless = not topic.ordered and topic.changelog_of is None and there.partitions > topic.partitions
        if there.partitions != topic.partitions and not harmless:
            why = _partitions_refused(topic, there.partitions, force)
            differences.append(Difference(topic.name, "partitions", str(topic.partitions), str(there.partitions), why))
        if there.replication != topic.replication:
            differences.append(
                Difference(topic.name, "replication", str(topic.replication), str(there.replication), _REPLICATION)
            )
        for name, value in topic.config.items():
            current = configs.get(topic.name, {}).get(name)
            if current != value:
                was = f"{name}={current}" if current is not None else "unset"
                differences.append(Difference(topic.name, "config", f"{name}={value}", was))
    return differences


def unequal(agent: str, topics: Iterable[Wanted]) -> list[Difference]:
    """A difference when the catalogue gives an agent's sources and changelog different partition counts."""
    counts = {topic.name: topic.partitions for topic in topics}
    if len(set(counts.values())) < 2:
        return []
    shown = ", ".join(f"{name}: {count}" for name, count in counts.items())
    why = f"agent {agent} reads these side by side: declare the same count for all of them in the catalogue"
    return [Difference(next(iter(counts)), "unequal", "equal partition counts", shown, why)]


def _described(topic: Wanted) -> str:
    config = " ".join(f"{name}={value}" for name, value in topic.config.items())
    return f"{topic.partitions} partitions, replication {topic.replication}, {config}"


def _partitions_refused(topic: Wanted, found: int, force: bool) -> str:
    if topic.partitions < found:
        return (
            f"Kafka can't take partitions away: declare {found} (HARDPARTS_PARTITIONS or the catalogue), "
            "or move to a new topic"
        )
    share = f"{moved_share(found, topic.partitions):.0%} of keys would move to another partition"
    if topic.changelog_of is not None:
        return (
            f"{share}, away from the state of agent {topic.changelog_of}: keep the count, or move to new topics, "
            "filled from the old ones by key"
        )
    if topic.ordered and not force:
        return f"{share} and lose their order: drain the topic first, then `hardparts topics apply --force`"
    return ""


_REPLICATION = "move replicas with Kafka's kafka-reassign-partitions, or set HARDPARTS_REPLICATION to what is there"
