"""Which member of the group gets which unit: each unit whole, to one member that reads all sources of its agent.

Two versions of an application in one group may read different topics for one agent. Given topic by topic, the
partitions of one unit would land on two members, which would take it from each other for as long as both run.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Numbers = Mapping[str, frozenset[int]]
"""Topic → partition numbers."""


class Agent(NamedTuple):
    """changelog: its topic; "" when it isn't known."""

    name: str
    changelog: str


class Member(NamedTuple):
    """name: its id in the group. reads: agent → the sources that it reads. had: what it was given last, and had
    copies of. build: the version of its application; "" when it doesn't say. blocked: `agent/partition` of the units
    that waited for another build there.
    """

    name: str
    subscribed: frozenset[str]
    reads: Mapping[str, frozenset[str]]
    had: Numbers
    copies: Numbers
    build: str = ""
    blocked: frozenset[str] = frozenset()


class Given(NamedTuple):
    """What one member gets: topic → partition numbers, and those of the changelogs that it keeps a copy of."""

    units: dict[str, list[int]]
    copies: dict[str, list[int]]


class Share(NamedTuple):
    """Agents whose units of one number go to one member. sources: of each agent. units: how many each has.
    readers: who can have them.
    """

    agents: tuple[Agent, ...]
    sources: tuple[frozenset[str], ...]
    units: int
    readers: tuple[Member, ...]

    @property
    def topics(self) -> list[str]:
        """All sources and changelogs."""
        changelogs = {agent.changelog for agent in self.agents if agent.changelog}
        return sorted(changelogs.union(*self.sources))

    def holders(self, of: str) -> dict[int, Counter[str]]:
        """Number → how many agents' units each reader had there. of: `had` or `copies`."""
        held: dict[int, Counter[str]] = defaultdict(Counter)
        for member in self.readers:
            numbers: Numbers = getattr(member, of)
            for agent, sources in zip(self.agents, self.sources, strict=True):
                state = numbers.get(agent.changelog)
                found = state or frozenset().union(*(numbers.get(topic, ()) for topic in sources))
                for number in found:
                    held[number][member.name] += 1
        return held

    def avoided(self) -> dict[int, set[str]]:
        """Number → builds on which a unit of it is blocked."""
        avoided: dict[int, set[str]] = defaultdict(set)
        names = {agent.name for agent in self.agents}
        for member in self.readers:
            for unit in member.blocked:
                name, _, number = unit.rpartition("/")
                if name in names and number.isdecimal() and int(number) < self.units:
                    avoided[int(number)].add(member.build)
        return avoided


def assign(
    agents: Iterable[Agent], counts: Mapping[str, int], members: Sequence[Member], copies: int
) -> dict[str, Given]:
    """Member → what it gets. counts: partitions of each topic, 0 or absent for a missing one. copies: of each unit,
    beside its owner's.
    """
    given = {member.name: Given({}, {}) for member in members}
    carried: Counter[str] = Counter()
    for share in shares(agents, counts, members):
        owners = owned(share, carried)
        for name in owners:
            carried[name] += len(share.agents)
        holders = copied(share, owners, copies)
        for topic in share.topics:
            numbers = range(min(share.units, counts.get(topic, 0)))
            for member in share.readers if numbers else ():
                given[member.name].units[topic] = [n for n in numbers if owners[n] == member.name]
                given[member.name].copies[topic] = [n for n in numbers if member.name in holders[n]]
    return given


def unit_count(sources: Iterable[str], changelog: str, counts: Mapping[str, int]) -> int:
    """Units of an agent: as many as its largest source has partitions, but no more than its changelog.

    A changelog that is missing limits nothing: its units wait for it.
    """
    largest = max((counts.get(source, 0) for source in sources), default=0)
    return min(largest, counts.get(changelog, 0) or largest)


def shares(agents: Iterable[Agent], counts: Mapping[str, int], members: Sequence[Member]) -> list[Share]:
    """Agents that the same members read, with the same number of units, side by side."""
    alike: dict[tuple[int, tuple[str, ...]], list[tuple[Agent, frozenset[str]]]] = defaultdict(list)
    by_name = {member.name: member for member in members}
    for agent in sorted(agents):
        sources = sources_of(agent.name, members)
        topics = sources | ({agent.changelog} if agent.changelog else set())
        readers = tuple(
            sorted(m.name for m in members if m.reads.get(agent.name) == sources and topics <= m.subscribed)
        )
        count = unit_count(sources, agent.changelog, counts)
        if readers and count and sources:
            alike[count, readers].append((agent, sources))
    return [
        Share(tuple(a for a, _ in group), tuple(s for _, s in group), count, tuple(by_name[name] for name in readers))
        for (count, readers), group in alike.items()
    ]


def sources_of(agent: str, members: Iterable[Member]) -> frozenset[str]:
    """The sources that an owner of this agent's units must read: all that any member reads for it, if one member reads
    them all; else what most members read, of equals the longer list.
    """
    votes = Counter(member.reads[agent] for member in members if agent in member.reads)
    if not votes:
        return frozenset()
    every = frozenset().union(*votes)
    return every if every in votes else max(votes, key=lambda one: (votes[one], len(one), sorted(one)))


def owned(share: Share, carried: Mapping[str, int]) -> list[str]:
    """The owner of each number. Everybody gets as many as the others, or one more; most stay where they were, and one
    that is blocked goes to another build. carried: member → units that it has of other shares; who has few gets the one
    more.
    """
    seats = _Seats(share, carried)
    seats.move_blocked(share.avoided())
    seats.keep(share.holders("had"))
    seats.fill(share.holders("copies"))
    return [seats.owner[number] for number in range(share.units)]


class _Seats:
    """Numbers on their way to their owners."""

    def __init__(self, share: Share, carried: Mapping[str, int]) -> None:
        self._low, extra = divmod(share.units, len(share.readers))
        self._carried = carried
        self._numbers = range(share.units)
        self._builds = {member.name: member.build for member in share.readers}
        self._placed = dict.fromkeys(sorted(self._builds), 0)
        self._extra_left = extra
        self._most: dict[str, int] = {}
        self.owner: dict[int, str] = {}

    def move_blocked(self, avoided: Mapping[int, set[str]]) -> None:
        """Each to a member of another build, if one has room. avoided: number → builds on which it is blocked."""
        for number, builds in sorted(avoided.items()):
            others = [name for name in self._with_room() if self._builds[name] not in builds]
            if others:
                self._place(
                    number, min(others, key=lambda name: (self._placed[name], self._carried.get(name, 0), name))
                )

    def keep(self, had: Mapping[int, Counter[str]]) -> None:
        """Each where it was, as far as there is room."""
        stay: dict[str, list[int]] = {name: [] for name in self._placed}
        for number in self._numbers:
            if number not in self.owner and had.get(number):
                stay[max(had[number], key=lambda name: (had[number][name], name))].append(number)
        self._give_the_extra(stay)
        for name, numbers in stay.items():
            for number in numbers[: self._most[name] - self._placed[name]]:
                self._place(number, name)

    def _give_the_extra(self, stay: Mapping[str, Sequence[int]]) -> None:
        """From here on it is settled how many each gets. What each carries comes first: were it what stays, whoever was
        here alone would keep one more of every share.
        """
        least = [name for name, number in self._placed.items() if number <= self._low]
        least.sort(key=lambda name: (self._carried.get(name, 0), -len(stay[name]) - self._placed[name], name))
        self._most = {name: max(self._low, number) for name, number in self._placed.items()}
        self._most.update((name, self._low + 1) for name in least[: self._extra_left])

    def fill(self, copies: Mapping[int, Counter[str]]) -> None:
        """The rest: to who has a copy, else to who has the fewest."""
        for number in self._numbers:
            if number not in self.owner:
                warm = copies.get(number, Counter())
                best = min(self._with_room(), key=lambda name: (not warm[name], self._placed[name], name))
                self._place(number, best)

    def _with_room(self) -> list[str]:
        most = self._low + 1 if self._extra_left else self._low
        return [name for name, number in self._placed.items() if number < self._most.get(name, most)]

    def _place(self, number: int, name: str) -> None:
        self.owner[number] = name
        self._placed[name] += 1
        if self._placed[name] > self._low:
            self._extra_left -= 1


def copied(share: Share, owners: Sequence[str], copies: int) -> list[frozenset[str]]:
    """Who keeps a copy of each number: who had it, as long as nobody has many more than the others."""
    names = [member.name for member in share.readers]
    each = min(copies, len(names) - 1)
    most = -(-share.units * each // len(names))
    had, kept = share.holders("had"), share.holders("copies")
    placed: dict[str, int] = dict.fromkeys(names, 0)
    holders = []
    for number, owner in enumerate(owners):
        warm = had[number] + kept[number]
        best = sorted(
            (name for name in names if name != owner),
            key=lambda name: (placed[name] >= most, not warm[name], placed[name], name),
        )[:each]
        for name in best:
            placed[name] += 1
        holders.append(frozenset(best))
    return holders
