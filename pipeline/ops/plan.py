"""The difference between the catalogue and the cluster, as data; and which parts of it are refused (O5)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from pipeline.core.routing import moved_share
from pipeline.core.topic import Topic
from pipeline.runtime.admin import TopicFound
from pipeline.runtime.check import set_partitions, the_other_count
from pipeline.runtime.settings import Settings

IN_SYNC_MIN_FROM_REPLICAS = 3

Kind = Literal["missing", "config", "partitions", "replication", "unequal"]


class Wanted(NamedTuple):
    """A topic as it should be.

    changelog_of: the agent whose state it holds, if it is a changelog. read_by: the agent that reads it and keeps state
    by its partitions. by_setting: its partition count comes from HARDPARTS_PARTITIONS, not from the catalogue.
    """

    name: str
    partitions: int
    replication: int
    config: dict[str, str]
    ordered: bool
    changelog_of: str | None = None
    read_by: str | None = None
    by_setting: bool = False

    @property
    def agent(self) -> str | None:
        """The agent whose state is bound to this topic's partition count."""
        return self.changelog_of or self.read_by


class Difference(NamedTuple):
    """One difference. found: "" when there is nothing. refused: why `apply` won't, and the remedy; "" when it will."""

    topic: str
    kind: Kind
    wanted: str
    found: str
    refused: str = ""

    def __str__(self) -> str:
        missing = self.kind == "missing"
        sign = "!" if self.refused else "+" if missing else "~"
        what = f"create, {self.wanted}" if missing else f"{self.kind} {self.found} -> {self.wanted}"
        return f"{sign} {self.topic}: {what}" + (f"\n    refused: {self.refused}" if self.refused else "")


def wanted(topic: Topic, settings: Settings, changelog_of: str | None = None, read_by: str | None = None) -> Wanted:
    """What the catalogue's entry means under these settings."""
    config = {"cleanup.policy": "compact" if topic.compacted else "delete"}
    if topic.retention_ms is not None:
        config["retention.ms"] = str(topic.retention_ms)
    if settings.replication >= IN_SYNC_MIN_FROM_REPLICAS:
        config["min.insync.replicas"] = "2"
    config.update(topic.config)
    partitions = topic.partitions or settings.partitions
    return Wanted(
        topic.name, partitions, settings.replication, config, topic.ordered, changelog_of, read_by,
        by_setting=topic.partitions is None,
    )  # fmt: skip


def plan(
    topics: Iterable[Wanted],
    found: Mapping[str, TopicFound],
    configs: Mapping[str, Mapping[str, str]],
    force: bool = False,
) -> list[Difference]:
    """Every difference, in the order of `topics`.

    force: partitions are added to ordered topics too, unless an agent of this application keeps state by them.
    """
    differences: list[Difference] = []
    topics = list(topics)
    other = other_count(topics, found)
    for topic in topics:
        there = found.get(topic.name)
        if there is None:
            why = _creation_refused(topic, topics, found, other)
            differences.append(Difference(topic.name, "missing", _described(topic), "", why))
            continue
        harmless = not topic.ordered and topic.agent is None and there.partitions > topic.partitions
        if there.partitions != topic.partitions and not harmless:
            why = _partitions_refused(topic, there.partitions, force, other)
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


def other_count(topics: Iterable[Wanted], found: Mapping[str, TopicFound]) -> int | None:
    """The partition count that all existing topics of agents share, when it isn't that of the setting."""
    bound = [topic for topic in topics if topic.by_setting and topic.agent is not None]
    counts = [found[topic.name].partitions for topic in bound if topic.name in found]
    return the_other_count(counts, bound[0].partitions) if bound else None


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


def _creation_refused(
    topic: Wanted, topics: Sequence[Wanted], found: Mapping[str, TopicFound], other: int | None
) -> str:
    """A topic made with another count than its agent's other topics could never be given theirs again."""
    if topic.by_setting and other is not None:
        return f"the topics of the agents have {other} partitions: {set_partitions(other)}"
    for sibling in topics:
        there = found.get(sibling.name)
        same_agent = topic.agent is not None and sibling.agent == topic.agent
        if same_agent and there is not None and there.partitions != topic.partitions:
            return (
                f"agent {topic.agent} needs equal partition counts and {sibling.name} has {there.partitions}: "
                f"declare {there.partitions} (HARDPARTS_PARTITIONS or the catalogue)"
            )
    return ""


def _partitions_refused(topic: Wanted, found: int, force: bool, other: int | None) -> str:
    if topic.by_setting and other is not None:
        kept = f"the topics of the agents have {other} partitions: {set_partitions(other)}"
        if topic.partitions > found and (topic.ordered or topic.agent is not None):
            return f"{_moved(found, topic.partitions)}; {kept}"
        return kept
    if topic.partitions < found:
        return (
            f"Kafka can't take partitions away: declare {found} (HARDPARTS_PARTITIONS or the catalogue), "
            "or move to a new topic"
        )
    share = _moved(found, topic.partitions)
    if topic.agent is not None:
        return (
            f"{share}, away from the state of agent {topic.agent}: declare {found} (HARDPARTS_PARTITIONS or the "
            "catalogue); --force doesn't change this. For another count start afresh with new topics"
        )
    if topic.ordered and not force:
        return (
            f"{share} and lose their order: stop what writes to it and let every reader reach its end, "
            "then `hardparts topics apply --force`, then restart all workers"
        )
    return ""


def _moved(found: int, partitions: int) -> str:
    return f"{moved_share(found, partitions):.0%} of keys would move to another partition"


_REPLICATION = "move replicas with Kafka's kafka-reassign-partitions, or set HARDPARTS_REPLICATION to what is there"
