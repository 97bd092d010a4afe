"""What a member of the group says of itself when it joins, and where the members differ.

It travels as JSON under `hp`, beside Faust's own fields; a member of an older version has none, and ignores it.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

from pipeline.core.agent import Definition
from pipeline.core.routing import DEFAULT

FIELD = "hp"
VERSION = 1
NAMES_MAX = 5
LINES_MAX = 20
"""Every member is sent what differs: a bound for hundreds of them."""


class Introduction(NamedTuple):
    """One member.

    build: version of the application. product: of hardparts. formats: of changelogs that it reads. agents: those that
    it runs → digest of their definition. reads: agent → its source topics. blocked: `agent/partition` of each unit
    that it had, and that waited for another build.
    """

    instance: str
    build: str
    product: str
    formats: tuple[int, ...]
    guarantee: str
    agents: Mapping[str, str]
    reads: Mapping[str, tuple[str, ...]]
    blocked: tuple[str, ...]
    url: str

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.instance} ({self.build})"

    def document(self) -> dict[str, Any]:
        """As JSON; `read` is the inverse."""
        return {FIELD: VERSION, **self._asdict()}

    @classmethod
    def read(cls, document: Any) -> Self | None:
        """From JSON, fields of a later version left out. None: not given, or not readable as that."""
        if not isinstance(document, dict) or not isinstance(document.get(FIELD), int):
            return None
        try:
            return cls(
                str(document["instance"]),
                str(document["build"]),
                str(document["product"]),
                tuple(int(number) for number in document["formats"]),
                str(document["guarantee"]),
                {str(agent): str(digest) for agent, digest in document["agents"].items()},
                {str(agent): tuple(map(str, sources)) for agent, sources in document["reads"].items()},
                tuple(map(str, document["blocked"])),
                str(document["url"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def digest(definition: Definition) -> str:
    """Of everything that two workers must agree on to hand a unit of this agent to each other."""
    topics = {topic.name: topic.partitioner for topic in definition.sources + definition.outputs}
    agreed = {
        "sources": sorted(topic.name for topic in definition.sources),
        "tables": sorted((view.name, view.kind) for view in definition.views),
        # One more output changes nothing; an output whose keys go to other partitions does.
        "partitioners": {name: chosen for name, chosen in topics.items() if chosen != DEFAULT},
    }
    return hashlib.sha256(json.dumps(agreed, sort_keys=True).encode()).hexdigest()


def reading(reads: Mapping[str, Iterable[str]]) -> str:
    """A digest of what a member reads. The leader says for which it has given: a static member that is back with other
    sources is given what it had, without a rebalance.
    """
    return hashlib.sha256(json.dumps({agent: sorted(reads[agent]) for agent in sorted(reads)}).encode()).hexdigest()


def differences(members: Mapping[str, Introduction | None]) -> list[str]:
    """A line for each thing in which members differ; none when they agree. None: of an older version.

    members: id in the group → what it says.
    """
    said = [one for one in members.values() if one is not None]
    lines = []
    silent = sorted(name for name, one in members.items() if one is None)
    if silent:
        lines.append(f"of a version that doesn't say what it runs: {some_of(silent)}")
    guarantees = _groups((one.guarantee, one.label) for one in said)
    if len(guarantees) > 1:
        lines.append("processing guarantee: " + _sides(guarantees))
    for agent in sorted({agent for one in said for agent in one.agents}):
        without = [one.label for one in said if agent not in one.agents]
        if without:
            lines.append(f"agent {agent}: not run by {some_of(without)}")
        digests = _groups((one.agents[agent], one.label) for one in said if agent in one.agents)
        if len(digests) > 1:
            lines.append(f"agent {agent}: {_definitions(agent, said)}")
    if len(lines) > LINES_MAX:
        lines[LINES_MAX - 1 :] = [f"and {len(lines) - LINES_MAX + 1} more"]
    return lines


def _definitions(agent: str, said: Iterable[Introduction]) -> str:
    runs = [one for one in said if agent in one.agents]
    sources = _groups((" and ".join(sorted(one.reads.get(agent, ()))), one.label) for one in runs)
    if len(sources) > 1:
        return "reads " + _sides(sources)
    digests = _groups((one.agents[agent], one.label) for one in runs)
    return "tables or partitioners differ: " + " / ".join(some_of(names) for names in digests.values())


def _groups(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for what, who in pairs:
        groups[what].append(who)
    return dict(sorted(groups.items()))


def _sides(groups: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{what}: {some_of(names)}" for what, names in groups.items())


def some_of(names: Iterable[str]) -> str:
    """The first few of these names, and how many more there are."""
    named = sorted(names)
    more = f" and {len(named) - NAMES_MAX} more" if len(named) > NAMES_MAX else ""
    return ", ".join(named[:NAMES_MAX]) + more
