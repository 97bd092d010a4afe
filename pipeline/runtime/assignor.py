"""Which partitions the members of the group get: those that have a partition in their agent's changelog.

Faust's assignor groups topics by equal partition counts. A source that somebody gives more partitions would leave the
group of its agent's topics: its units would land on other workers than their changelog partitions, and the new ones
would have no changelog partition at all.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor


class Assignor(PartitionAssignor):
    """Faust's assignor, with the topics of one agent always assigned side by side."""

    app: Any  # our App; Faust declares the type of its own

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._counts: dict[str, int] = {}
        self._units: dict[str, int] = {}

    def assigned_counts(self, counts: Mapping[str, int]) -> dict[str, int]:
        """topic → how many of its partitions are given to members, of what the cluster has now."""
        units = self.unit_counts(counts)
        return {topic: min(count, units[topic]) for topic, count in counts.items()}

    def unit_counts(self, counts: Mapping[str, int]) -> dict[str, int]:
        """topic → how many units the agent that it belongs to can have; its own count if it belongs to none."""
        agents = [([source.name for source in agent.sources], self.app.changelog(agent)) for agent in self.app.declared]
        return unit_counts(agents, counts)

    def _perform_assignment(self, cluster: Any, member_metadata: Any) -> Any:
        topics = {topic for member in member_metadata.values() for topic in member.subscription}
        self._counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        self._units = self.unit_counts(self._counts)
        return super()._perform_assignment(cluster, member_metadata)

    def _get_client_metadata(self, metadata: Any) -> ClientMetadata:  # type: ignore[override]  # called on self
        """What a member had, without partitions that can't be assigned any more."""
        had = super()._get_client_metadata(metadata)
        for tables in (had.assignment.actives, had.assignment.standbys):
            for topic, numbers in tables.items():
                tables[topic] = [number for number in numbers if number < self._units.get(topic, 0)]
        return had

    def _get_copartitioned_groups(  # type: ignore[override]  # called on self
        self,
        topics: set[str],
        cluster: Any,  # noqa: ARG002 - Faust's signature
        subscriptions: Any,
    ) -> dict[int, Iterable[set[str]]]:
        """unit count → topics that are assigned side by side. A missing topic is left out; the watch has an alert."""
        by_count: dict[int, set[str]] = defaultdict(set)
        for topic in topics:
            if self._counts[topic] and self._units[topic]:
                by_count[self._units[topic]].add(topic)
        return {count: self._group_co_subscribed(together, subscriptions) for count, together in by_count.items()}

    def _protocol_assignments(self, assignments: Any, *args: Any) -> Any:
        """As Faust's, without partitions that a topic of the agent lacks."""
        for assignment in assignments.values():
            for tables in (assignment.actives, assignment.standbys):
                for topic, numbers in tables.items():
                    tables[topic] = [number for number in numbers if number < self._counts[topic]]
        return super()._protocol_assignments(assignments, *args)


def unit_counts(agents: Iterable[tuple[list[str], str]], counts: Mapping[str, int]) -> dict[str, int]:
    """topic → number of units of its agent: as many as its largest source has, but no more than its changelog.

    agents: (sources, changelog) of each. counts: of the topics, 0 or absent for one that doesn't exist. A changelog
    that is missing limits nothing: its units wait for it.
    """
    units = dict(counts)
    for sources, changelog in agents:
        largest = max((counts.get(source, 0) for source in sources), default=0)
        number = min(largest, counts.get(changelog, 0) or largest)
        units.update((topic, number) for topic in (*sources, changelog) if topic in counts)
    return units
