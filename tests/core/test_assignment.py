"""Which member gets which unit, whatever the members read, had and say."""

from collections import Counter
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.assignment import Agent, Given, Member, assign, sources_of, unit_count

AGENTS = (Agent("counts", "counts-log"), Agent("mails", "mails-log"))
SOURCES = {"counts": ("a", "b", "c"), "mails": ("d", "e")}
ALL = ("a", "b", "c", "d", "e", "counts-log", "mails-log")
Counts = Mapping[str, int]


def member(name: str, build: str = "1", blocked: tuple[str, ...] = (), **reads: str) -> Member:
    """reads: agent → its sources, one letter each."""
    topics = {topic for sources in reads.values() for topic in sources} | {f"{agent}-log" for agent in reads}
    by_agent = {agent: frozenset(sources) for agent, sources in reads.items()}
    return Member(name, frozenset(topics), by_agent, {}, {}, build, frozenset(blocked))


def then(before: Member, given: Mapping[str, Given]) -> Member:
    """The same member at the next rebalance."""
    got = given[before.name]
    had = {topic: frozenset(numbers) for topic, numbers in got.units.items()}
    return before._replace(had=had, copies={topic: frozenset(numbers) for topic, numbers in got.copies.items()})


@st.composite
def groups(draw: st.DrawFn) -> list[Member]:
    members = []
    for at in range(draw(st.integers(1, 6))):
        reads = {}
        for agent, sources in SOURCES.items():
            chosen = draw(st.sets(st.sampled_from(sources)))
            if chosen:
                reads[agent] = "".join(sorted(chosen))
        blocked = draw(st.sets(st.sampled_from([f"{a}/{n}" for a in SOURCES for n in range(4)])))
        one = member(f"m{at}", draw(st.sampled_from(["1", "2"])), tuple(blocked), **reads)
        numbers = st.frozensets(st.integers(0, 8))
        had = draw(st.dictionaries(st.sampled_from(ALL), numbers))
        copies = draw(st.dictionaries(st.sampled_from(ALL), numbers))
        members.append(one._replace(had=had, copies=copies))
    return members


COUNTS = st.fixed_dictionaries({topic: st.sampled_from([0, 1, 3, 4, 4, 4, 8]) for topic in ALL})


def owners(given: Mapping[str, Given], topics: tuple[str, ...]) -> dict[int, set[str]]:
    """Number → the members that have it of any of these topics."""
    found: dict[int, set[str]] = {}
    for name, got in given.items():
        for topic in topics:
            for number in got.units.get(topic, ()):
                found.setdefault(number, set()).add(name)
    return found


@given(groups(), COUNTS, st.integers(0, 3))
def test_each_unit_is_given_whole_to_one_member_that_reads_it(
    members: list[Member], counts: Counts, copies: int
) -> None:
    given = assign(AGENTS, counts, members, copies)
    by_name = {one.name: one for one in members}
    for name, got in given.items():
        taken = {topic for tables in got for topic, numbers in tables.items() if numbers}
        assert taken <= by_name[name].subscribed
    for agent in AGENTS:
        topics = (*SOURCES[agent.name], agent.changelog)
        of_units = owners(given, topics)
        assert all(len(names) == 1 for names in of_units.values()), of_units
        for number, (name,) in of_units.items():
            sources = by_name[name].reads[agent.name]
            assert number < unit_count(sources, agent.changelog, counts)
            whole = {topic for topic in (*sources, agent.changelog) if number < counts[topic]}
            assert whole <= {topic for topic, numbers in given[name].units.items() if number in numbers}
            holders = [other for other, got in given.items() if number in got.copies.get(agent.changelog, ())]
            assert name not in holders
            assert len(holders) <= copies


@given(groups(), COUNTS, st.integers(0, 3))
def test_no_unit_is_left_out_and_nobody_has_many_more(members: list[Member], counts: Counts, copies: int) -> None:
    given = assign(AGENTS, counts, members, copies)
    for agent in AGENTS:
        reading = [one for one in members if agent.name in one.reads]
        of_units = owners(given, (*SOURCES[agent.name], agent.changelog))
        full = sources_of(agent.name, reading)
        assert sorted(of_units) == list(range(unit_count(full, agent.changelog, counts)))
        able = [one.name for one in reading if one.reads[agent.name] == full]
        had = Counter(name for names in of_units.values() for name in names)
        assert max((had[name] for name in able), default=0) - min((had[name] for name in able), default=0) <= 1


@given(groups(), COUNTS, st.integers(0, 3))
def test_who_stays_keeps_what_it_has(members: list[Member], counts: Counts, copies: int) -> None:
    calm = [one._replace(blocked=frozenset()) for one in members]
    first = assign(AGENTS, counts, calm, copies)
    again = [then(one, first) for one in calm]
    second = assign(AGENTS, counts, again, copies)
    assert {name: got.units for name, got in second.items()} == {name: got.units for name, got in first.items()}


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6, unique=True), st.integers(1, 5), st.data())
def test_agents_of_unequal_size_together_leave_nobody_with_more_than_one_unit_more(
    sizes: list[int], workers: int, data: st.DataObject
) -> None:
    agents = [Agent(f"agent{size}", f"agent{size}-log") for size in sizes]
    counts = {topic: size for size in sizes for topic in (f"agent{size}-log", chr(ord("A") + size))}
    reads = {f"agent{size}": chr(ord("A") + size) for size in sizes}
    had = st.dictionaries(st.sampled_from(sorted(counts)), st.frozensets(st.integers(0, 12)))
    members = [member(f"m{at}", **reads)._replace(had=data.draw(had)) for at in range(workers)]
    given = assign(agents, counts, members, 0)
    units = [sum(len(got.units[agent.changelog]) for agent in agents) for got in given.values()]
    assert sum(units) == sum(sizes)
    assert max(units) - min(units) <= 1


def test_a_second_worker_gets_its_half_of_agents_of_one_three_and_five_units() -> None:
    agents = [Agent(name, f"{name}-log") for name in ("counts", "mails", "others")]
    counts = {"a": 1, "counts-log": 1, "d": 3, "mails-log": 3, "x": 5, "others-log": 5}
    alone = member("m0", counts="a", mails="d", others="x")
    alone = then(alone, assign(agents, counts, [alone], 0))
    given = assign(agents, counts, [alone, member("m1", counts="a", mails="d", others="x")], 0)
    units = {name: sum(len(got.units[agent.changelog]) for agent in agents) for name, got in given.items()}
    assert units == {"m0": 5, "m1": 4}
    stayed = [number for number in given["m0"].units["x"] if number in alone.had["x"]]
    assert len(stayed) == len(given["m0"].units["x"])


def test_the_same_whatever_the_order_of_the_members() -> None:
    members = [member(f"m{at}", counts="ab", mails="d") for at in range(5)]
    counts = dict.fromkeys(ALL, 8)
    assert assign(AGENTS, counts, members, 1) == assign(AGENTS, counts, members[::-1], 1)


def settled(members: list[Member], copies: int = 0) -> tuple[list[Member], Mapping[str, Given]]:
    given = assign(AGENTS, dict.fromkeys(ALL, 8), members, copies)
    return [then(one, given) for one in members], given


def test_a_source_that_is_added_moves_the_units_to_those_that_read_it_and_no_further() -> None:
    old, _ = settled([member("old1", counts="a"), member("old2", counts="a")])
    mixed, given = settled([*old, member("new1", counts="ab")])
    assert given["new1"].units == {topic: list(range(8)) for topic in ("a", "b", "counts-log")}
    assert not given["old1"].units
    _, given = settled([one for one in mixed if one.name != "old1"])
    assert given["new1"].units["b"] == list(range(8))  # nothing moves because an old one leaves


def test_a_source_that_is_removed_is_read_until_the_last_one_that_knows_it_has_left() -> None:
    old, _ = settled([member("old1", counts="ab"), member("old2", counts="ab")])
    mixed, given = settled([*old, member("new1", counts="a")])
    assert not given["new1"].units
    assert sorted(given["old1"].units["b"] + given["old2"].units["b"]) == list(range(8))
    _, given = settled([one for one in mixed if one.name == "new1"])
    assert given["new1"].units == {topic: list(range(8)) for topic in ("a", "counts-log")}


def test_where_nobody_reads_everything_the_majority_counts() -> None:
    members = [member("m1", counts="ab"), member("m2", counts="ac"), member("m3", counts="ac")]
    _, given = settled(members)
    assert sorted(given) == ["m1", "m2", "m3"]
    assert not given["m1"].units
    assert given["m2"].units.keys() == {"a", "c", "counts-log"}


def test_another_agent_is_not_touched_by_it() -> None:
    old, before = settled([member("old1", counts="a", mails="d"), member("old2", counts="a", mails="d")])
    _, given = settled([*old, member("new", counts="ab", mails="d")])
    stayed = [n for name in ("old1", "old2") for n in given[name].units["d"] if n in before[name].units["d"]]
    assert len(stayed) >= 5  # of 8: the newcomer gets its third
    assert len(given["new"].units["b"]) == 8


def test_a_blocked_unit_goes_to_another_build_and_elsewhere_stays_when_there_is_none() -> None:
    old, before = settled([member("m1", counts="a"), member("m2", counts="a")])
    stuck = before["m1"].units["a"][0]
    waits = [one._replace(blocked=frozenset({f"counts/{stuck}"})) if one.name == "m1" else one for one in old]
    _, given = settled(waits)
    assert stuck in given["m1"].units["a"]
    _, given = settled([*waits, member("m3", "2", counts="a")])
    assert stuck in given["m3"].units["a"]


def test_who_has_a_copy_becomes_the_owner() -> None:
    three, before = settled([member(f"m{at}", counts="a") for at in range(3)], copies=1)
    left = [one for one in three if one.name != "m0"]
    _, given = settled(left, copies=1)
    orphans = before["m0"].units["a"]
    warm = [
        n
        for n in orphans
        for one in left
        if n in before[one.name].copies["counts-log"] and n in given[one.name].units["a"]
    ]
    assert len(warm) >= len(orphans) - 1
