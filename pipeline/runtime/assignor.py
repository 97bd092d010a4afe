"""Which partitions the members of the group get: whole units, by `pipeline.core.assignment`.

Faust's assignor goes topic by topic. The wire format stays Faust's, so that older members understand it; what we add
stands beside its fields, which it ignores.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor

from pipeline.core.assignment import Agent, Given, Member, assign, unit_count
from pipeline.core.membership import FIELD, Introduction, differences, reading
from pipeline.runtime.joining import OtherProtocol

log = logging.getLogger("hardparts.group")

SERVER_SIDE = (
    "the broker has assigned the partitions itself: a member of the group uses Kafka's newer `consumer` protocol. "
    "Stop it, or give it another group"
)
OTHERS = "?"
"""Stands for the agents that only members of older versions run: what they read for which one isn't known."""


class Assignor(PartitionAssignor):
    """Faust's assignor, which gives units instead of partitions."""

    app: Any  # our App; Faust declares the type of its own

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ask_for_rebalance: Callable[[], None] = lambda: None
        """Set by the consumer's thread, in which this runs."""
        self._has_asked = False
        self.differ: tuple[str, ...] | None = ()
        """In what the members differed at the last rebalance; None: the leader is of an older version, which can't say.
        """

    def assigned_counts(self, counts: Mapping[str, int]) -> dict[str, int]:
        """topic → how many of its partitions are given to members, of what the cluster has now."""
        units = self.unit_counts(counts)
        return {topic: min(count, units[topic]) for topic, count in counts.items()}

    def unit_counts(self, counts: Mapping[str, int]) -> dict[str, int]:
        """topic → how many units the agent that it belongs to can have; its own count if it belongs to none."""
        agents = [([source.name for source in agent.sources], self.app.changelog(agent)) for agent in self.app.declared]
        return unit_counts(agents, counts)

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What this member tells the leader."""
        user_data = _with_ours(self._metadata.dumps(), self.app.introduction().document())
        return ConsumerProtocolMemberMetadata(self.version, list(topics), user_data)

    def on_assignment(self, assignment: Any) -> None:
        """What the leader has given: as Faust's, which insists that a leader knows the same tables as we do."""
        if not assignment.user_data:
            raise OtherProtocol(SERVER_SIDE)
        user_data = self._decompress(assignment.user_data)
        given = cast(ClientMetadata, ClientMetadata.loads(user_data))
        self._assignment = given.assignment
        self._topic_groups = dict(given.topic_groups)
        self._active_tps, self._standby_tps = given.assignment.active_tps, given.assignment.standby_tps
        self.changelog_distribution = given.changelog_distribution
        self.external_topic_distribution = given.external_topic_distribution
        said = json.loads(user_data).get(FIELD)
        self.differ = tuple(map(str, said["differ"])) if isinstance(said, dict) and "differ" in said else None
        if isinstance(said, dict) and said.get("of", self._reading()) != self._reading() and not self._has_asked:
            self._has_asked = True
            log.info("given for what this worker read before: asking for a rebalance")
            self.ask_for_rebalance()

    def _reading(self) -> str:
        return reading(self.app.introduction().reads)

    def _perform_assignment(self, cluster: Any, member_metadata: Any) -> Any:
        had = {name: self._get_client_metadata(metadata) for name, metadata in member_metadata.items()}
        self._update_member_urls(had)
        said = {name: _introduction(metadata.user_data) for name, metadata in member_metadata.items()}
        subscribed = {name: frozenset(metadata.subscription) for name, metadata in member_metadata.items()}
        counts = {
            topic: len(cluster.partitions_for_topic(topic) or ()) for topic in frozenset().union(*subscribed.values())
        }
        reads = self._reads(said, subscribed)
        members = []
        for name, one in said.items():
            assignment = had[name].assignment
            actives, standbys = _numbers(assignment.actives), _numbers(assignment.standbys)
            build, blocked = (one.build, frozenset(one.blocked)) if one is not None else ("", frozenset())
            members.append(Member(name, subscribed[name], reads[name], actives, standbys, build, blocked))
        names = {agent for of_one in reads.values() for agent in of_one}
        agents = [Agent(name, self.app.settings.changelog(name) if name != OTHERS else "") for name in names]
        given = assign(agents, counts, members, self.replicas)
        if len(given) > 1:
            log.info("given: %s", "; ".join(f"{name}: {_shown(one)}" for name, one in sorted(given.items())))
        return self._answers(given, reads, differences(said), agents)

    def _reads(
        self, said: Mapping[str, Introduction | None], subscribed: Mapping[str, frozenset[str]]
    ) -> dict[str, dict[str, frozenset[str]]]:
        """member → agent → the sources that it reads. One that doesn't say reads what it subscribes to of an agent that
        is known, if it subscribes to the changelog as well.
        """
        known: dict[str, set[str]] = {d.name: {topic.name for topic in d.sources} for d in self.app.declared}
        for one in said.values():
            for agent, sources in one.reads.items() if one else ():
                known.setdefault(agent, set()).update(sources)
        changelogs = {self.app.settings.changelog(agent) for agent in known}
        told = changelogs.union(*known.values())
        reads = {}
        for name, one in said.items():
            if one is not None:
                reads[name] = {agent: frozenset(sources) for agent, sources in one.reads.items()}
                continue
            topics = subscribed[name]
            reads[name] = {
                agent: frozenset(sources & topics)
                for agent, sources in known.items()
                if sources & topics and self.app.settings.changelog(agent) in topics
            }
            others = topics - told
            if any(self._is_changelog(topic) for topic in others):  # else they are more sources of the agents above
                reads[name][OTHERS] = others
        return reads

    def _is_changelog(self, topic: str) -> bool:
        before, _, after = self.app.settings.changelog("\0").partition("\0")
        return topic.startswith(before) and topic.endswith(after)

    def _answers(
        self, given: Mapping[str, Given], reads: Mapping[str, Any], differ: list[str], agents: Iterable[Agent]
    ) -> Any:
        """member → what it is sent."""
        changelogs = {agent.changelog for agent in agents}
        assignments = {name: ClientAssignment(actives=one.units, standbys=one.copies) for name, one in given.items()}
        distribution = self._get_changelog_distribution(assignments), self._get_external_topic_distribution(assignments)
        answers = {}
        for name, assignment in assignments.items():
            metadata = ClientMetadata(
                assignment=assignment,
                url=self._member_urls[name],
                changelog_distribution=distribution[0],
                external_topic_distribution=distribution[1],
                topic_groups={},
            )
            # Faust leaves out the copies of agents that the leader doesn't run. An older member insists on them, those
            # of agents that it alone runs among them.
            sent = {topic: list(numbers) for topic, numbers in assignment.actives.items()}
            for topic in sent:
                if topic in changelogs or self._is_changelog(topic):
                    sent[topic] += assignment.standbys[topic]
            user_data = _with_ours(metadata.dumps(), {"differ": differ, "of": reading(reads[name])})
            answers[name] = ConsumerProtocolMemberAssignment(
                self.version, sorted(sent.items()), self._compress(user_data)
            )
        return answers


def unit_counts(agents: Iterable[tuple[list[str], str]], counts: Mapping[str, int]) -> dict[str, int]:
    """topic → number of units of its agent. agents: (sources, changelog) of each. counts: of the topics, 0 or absent
    for one that doesn't exist.
    """
    units = dict(counts)
    for sources, changelog in agents:
        number = unit_count(sources, changelog, counts)
        units.update((topic, number) for topic in (*sources, changelog) if topic in counts)
    return units


def _with_ours(user_data: bytes, ours: Mapping[str, Any]) -> bytes:
    return json.dumps({**json.loads(user_data), FIELD: ours}, separators=(",", ":")).encode()


def _introduction(user_data: bytes) -> Introduction | None:
    return Introduction.read(json.loads(user_data).get(FIELD))


def _numbers(tables: Mapping[str, Iterable[int]]) -> dict[str, frozenset[int]]:
    return {topic: frozenset(numbers) for topic, numbers in tables.items()}


def _shown(given: Given) -> str:
    return " ".join(f"{topic}={numbers}" for topic, numbers in given.units.items() if numbers) or "nothing"
