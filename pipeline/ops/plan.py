"""The difference between the catalogue and the cluster, as data; and which parts of it are refused (O5)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from pipeline.core.routing import moved_share
from pipeline.core.topic import Topic
from pipeline.runtime.admin import TopicFound
from pipeline.runtime.check import STATE_WAS_IN_IT, has_spare, set_partitions, the_other_count
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
    lost: Collection[str] = (),
) -> list[Difference]:
    """Every difference, in the order of `topics`.

    force: partitions are added to ordered topics too, unless an agent of this application keeps state by them; and a
    changelog that is lost is made again. lost: missing changelogs that had rows.
    """
    differences: list[Difference] = []
    topics = list(topics)
    other = other_count(topics, found)
    agents = _agents(topics, found, lost)
    uneven = any(len(set(agent.counts.values())) > 1 for agent in agents.values())
    for topic in topics:
        there, agent = found.get(topic.name), agents.get(topic.agent or "")
        if there is None:
            why = _creation_refused(topic, agent, force, other)
            differences.append(Difference(topic.name, "missing", _described(topic), "", why))
            continue
        if there.partitions != topic.partitions and not _harmless(topic, there.partitions, agent):
            why = _partitions_refused(topic, there.partitions, agent, force, other)
            if uneven and not why:
                why = UNEVEN
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
    """The partition count that all existing topics of agents share, when it isn't that of the setting.

    Only agents whose changelog exists have state; any other client may have created the sources of the rest.
    """
    topics = list(topics)
    kept = {topic.changelog_of for topic in topics if topic.name in found} - {None}
    bound = [topic for topic in topics if topic.by_setting and topic.agent in kept and topic.name in found]
    return the_other_count((found[topic.name].partitions for topic in bound), bound[0].partitions) if bound else None


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


class _Agent(NamedTuple):
    """What is there of an agent's topics.

    sources, changelog: name → partition count. lost: the changelog is gone, and had rows. free: no changelog exists
    yet whose count comes from HARDPARTS_PARTITIONS, so that the setting may still be changed.
    """

    declared: int
    sources: dict[str, int]
    changelog: dict[str, int]
    lost: bool
    free: bool

    @property
    def counts(self) -> dict[str, int]:
        """Of those that must be equal."""
        return self.sources if self.spare else self.sources | self.changelog

    @property
    def spare(self) -> bool:
        """Whether the changelog has partitions that nobody needs."""
        return any(has_spare(count, self.sources.values(), self.declared) for count in self.changelog.values())

    @property
    def stateless(self) -> bool:
        """Whether no state is bound to the counts yet."""
        return not self.changelog and not self.lost


def _agents(topics: Sequence[Wanted], found: Mapping[str, TopicFound], lost: Collection[str]) -> dict[str, _Agent]:
    free = not any(topic.by_setting and topic.changelog_of and topic.name in found for topic in topics)
    agents: dict[str, _Agent] = {}
    for topic in topics:
        if topic.agent is None:
            continue
        agent = agents.setdefault(topic.agent, _Agent(topic.partitions, {}, {}, False, free and topic.by_setting))
        if topic.name in lost:
            agents[topic.agent] = agent._replace(lost=True)
        if topic.name in found:
            kind = agent.changelog if topic.changelog_of else agent.sources
            kind[topic.name] = found[topic.name].partitions
    return agents


def _harmless(topic: Wanted, found: int, agent: _Agent | None) -> bool:
    """Whether a topic may have the partitions that it has too many."""
    if agent is None:
        return not topic.ordered and found > topic.partitions
    return topic.changelog_of is not None and agent.spare


def _creation_refused(topic: Wanted, agent: _Agent | None, force: bool, other: int | None) -> str:
    """A topic made with another count than its agent's other topics could never be given theirs again."""
    if topic.by_setting and other is not None:
        return f"the topics of the agents have {other} partitions: {set_partitions(other)}"
    if agent is None:
        return ""
    if topic.changelog_of and agent.lost and not force:
        return f"agent {topic.agent} has read its sources and {STATE_WAS_IN_IT}; --force creates an empty one"
    if topic.partitions in agent.changelog.values():
        return ""
    for name, count in agent.counts.items():
        if count == topic.partitions:
            continue
        remedy = f"declare {count} (HARDPARTS_PARTITIONS or the catalogue)"
        if agent.stateless:
            remedy = _made_by_another(count, agent)
        return f"agent {topic.agent} needs equal partition counts and {name} has {count}: {remedy}"
    return ""


def _partitions_refused(topic: Wanted, found: int, agent: _Agent | None, force: bool, other: int | None) -> str:
    if topic.by_setting and other is not None:
        kept = f"the topics of the agents have {other} partitions: {set_partitions(other)}"
        if topic.partitions > found and (topic.ordered or topic.agent is not None):
            return f"{_moved(found, topic.partitions)}; {kept}"
        return kept
    if agent is not None:
        return _bound(topic, found, agent)
    if topic.partitions < found:
        return _declare(found)
    if topic.ordered and not force:
        return (
            f"{_moved(found, topic.partitions)} and lose their order: stop what writes to it and let every reader "
            "reach its end, then `hardparts topics apply --force`, then restart all workers"
        )
    return ""


def _bound(topic: Wanted, found: int, agent: _Agent) -> str:
    """Why the count of an agent's topic stays as it is."""
    if agent.stateless:
        return _made_by_another(found, agent)
    if any(count == topic.partitions for name, count in agent.counts.items() if name != topic.name):
        if found > topic.partitions:
            return "somebody has added partitions: keep the setting, see docs/runbook.md, Alert partitions"
        return (
            f"other topics of agent {topic.agent} have {topic.partitions}: see docs/runbook.md, Partition counts differ"
        )
    if found > topic.partitions:
        return _declare(found)
    return (
        f"{_moved(found, topic.partitions)}, away from the state of agent {topic.agent}: declare {found} "
        "(HARDPARTS_PARTITIONS or the catalogue); --force doesn't change this. For another count see "
        "docs/runbook.md, Partition counts differ"
    )


def _made_by_another(count: int, agent: _Agent) -> str:
    keep = set_partitions(count) if agent.free else f"declare {count} in the catalogue"
    return (
        "another client created it; if it is empty, delete it and run `hardparts topics apply` again; "
        f"to keep it, {keep}"
    )


def _declare(count: int) -> str:
    return (
        f"Kafka can't take partitions away: declare {count} (HARDPARTS_PARTITIONS or the catalogue), "
        "or move to a new topic"
    )


def _moved(found: int, partitions: int) -> str:
    return f"{moved_share(found, partitions):.0%} of keys would move to another partition"


_REPLICATION = "move replicas with Kafka's kafka-reassign-partitions, or set HARDPARTS_REPLICATION to what is there"
UNEVEN = "nothing grows while an agent's topics have unequal counts: see docs/runbook.md, Partition counts differ"
