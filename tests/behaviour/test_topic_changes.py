"""Who is given which partitions while topics change, and what is said about it."""

import asyncio
import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import OffsetAndMetadata
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata

from agents import topics
from pipeline.core.topic import Catalogue
from pipeline.kafka.topic_ids import TopicSeen
from pipeline.runtime import topic_changes
from pipeline.runtime.agent import Agent
from pipeline.runtime.alerts import Alerts
from pipeline.runtime.app import App
from pipeline.runtime.assignor import Assignor, unit_counts
from pipeline.runtime.settings import Settings
from pipeline.runtime.topic_changes import TopicChanges
from pipeline.runtime.topic_lives import TopicLives

CHANGELOG = "a-both-changelog"
AGENT = ("user-events", "team-events", CHANGELOG)
ALL = (*AGENT, "messages", "a-alone-changelog")
Given = dict[str, set[tuple[str, int]]]
"""member → the topic-partitions that it was given."""


@pytest.fixture
async def assignor(tmp_path: Path) -> Assignor:
    catalogue = Catalogue.of([topics.user_events, topics.team_events, topics.messages])
    app = App(catalogue=catalogue, modules=[], contracts=tmp_path, settings=Settings(app_id="a", data_dir=tmp_path))
    Agent(app, "both", sources=[topics.user_events, topics.team_events])
    Agent(app, "alone", sources=[topics.messages])
    assert isinstance(app.assignor, Assignor)
    return app.assignor


def assign(assignor: Assignor, counts: Mapping[str, int], before: Mapping[str, ClientAssignment]) -> Any:
    """One rebalance. before: member → what it had; the same afterwards, and the topic-partitions of each."""
    cluster = ClusterMetadata()
    cluster._partitions = {topic: dict.fromkeys(range(count)) for topic, count in counts.items() if count}
    members = {
        name: ConsumerProtocolMemberMetadata(
            assignor.version, list(ALL),
            ClientMetadata(assignment=had, url="http://x", changelog_distribution={}).dumps(),
        )
        for name, had in before.items()
    }  # fmt: skip
    answer = assignor.assign(cluster, members)
    given = {name: {(topic, n) for topic, ns in got.assignment for n in ns} for name, got in answer.items()}
    after = {name: ClientMetadata.loads(assignor._decompress(got.user_data)).assignment for name, got in answer.items()}
    return after, given


def check(given: Given, counts: Mapping[str, int]) -> None:
    """Each partition that has a unit is given once, and all of a unit to one member."""
    units = unit_counts([(list(AGENT[:2]), CHANGELOG), (["messages"], "a-alone-changelog")], counts)
    everything = [one for had in given.values() for one in had]
    expected = {(t, n) for t, count in counts.items() for n in range(min(count, units[t]))}
    assert sorted(everything) == sorted(expected)
    for number in range(max(counts.values())):
        owners = {name for name, had in given.items() if any((topic, number) in had for topic in AGENT)}
        assert len(owners) <= 1


def nothing(*members: str) -> dict[str, ClientAssignment]:
    return {name: ClientAssignment(actives={}, standbys={}) for name in members}


async def test_more_partitions_of_a_source_are_given_to_nobody_and_the_others_stay(assignor: Assignor) -> None:
    counts = dict.fromkeys(ALL, 4)
    had, before = assign(assignor, counts, nothing("one", "two"))
    check(before, counts)
    grown = counts | {"user-events": 5}
    had, after = assign(assignor, grown, had)
    check(after, grown)
    assert after == before
    assert assignor.assigned_counts(grown) == counts  # for the client nothing has changed: no rebalance
    _, alone = assign(assignor, grown, {"two": had["two"]})
    check(alone, grown)


async def test_a_missing_source_leaves_the_others_where_they_are(assignor: Assignor) -> None:
    counts = dict.fromkeys(ALL, 4)
    had, before = assign(assignor, counts, nothing("one", "two"))
    gone = counts | {"user-events": 0}
    had, after = assign(assignor, gone, had)
    check(after, gone)
    assert after == {name: {one for one in tps if one[0] != "user-events"} for name, tps in before.items()}
    _, back = assign(assignor, counts, had)
    assert back == before


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_changes_each_unit_has_one_owner(assignor: Assignor, seed: int) -> None:
    draw = random.Random(seed)
    had = nothing("m0")
    for _ in range(15):
        counts = {topic: draw.choice([0, 1, 3, 4, 4, 4, 5, 8]) for topic in ALL}
        members = [f"m{number}" for number in range(draw.randint(1, 4))]
        had, given = assign(assignor, counts, {name: had.get(name) or nothing(name)[name] for name in members})
        check(given, counts)


class OneCluster:
    """A cluster that answers what the test says, one answer a look, the last one for ever."""

    def __init__(self, topic_ids: dict[str, str]) -> None:
        self.topic_ids: Mapping[str, str] = topic_ids
        self.answers: list[dict[str, TopicSeen | None]] = []
        self.rejoined = 0

    async def see_topics(self, names: Iterable[str]) -> dict[str, TopicSeen | None]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def rejoin(self) -> None:
        self.rejoined += 1


NAMES = ("events", "rows", "letters", "errors")
FOUR: dict[str, TopicSeen | None] = {name: TopicSeen(f"first-{name}", 4) for name in NAMES}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(topic_changes, "LOOK_AGAIN_S", 0.0)
    return iter(())


def changes(cluster: OneCluster, moved: set[str] | None = None) -> TopicChanges:
    def assigned(counts: Mapping[str, int]) -> dict[str, int]:
        units = unit_counts([(["events"], "rows")], counts)
        return {name: min(count, units[name]) for name, count in counts.items()}

    return TopicChanges(
        cluster, Alerts(), started_with=dict.fromkeys(NAMES, 4), assigned=assigned, read=["events"],
        changelogs=["rows"], keyed=["letters"], moved=set() if moved is None else moved,
    )  # fmt: skip


@pytest.mark.usefixtures("at_once")
async def test_a_missing_topic_has_an_alert_until_it_is_back() -> None:
    cluster = OneCluster({"events": "first-events"})
    looked = changes(cluster)
    cluster.answers = [FOUR]
    await looked.look()
    assert looked.problems == []
    cluster.answers = [FOUR | {"events": None, "errors": None}]
    await looked.look()
    assert looked._alerts.open.keys() == {"topics/events", "topics/errors"}
    assert "topics apply" in looked._alerts.open["topics/events"]["remedy"]
    cluster.answers = [FOUR]
    await looked.look()
    assert looked._alerts.open == {}
    assert cluster.rejoined == 0  # aiokafka does that itself for a topic that was missing


@pytest.mark.usefixtures("at_once")
async def test_nobody_is_told_to_create_a_missing_changelog() -> None:
    cluster = OneCluster({"events": "first-events"})
    looked = changes(cluster)
    cluster.answers = [FOUR | {"rows": None}]
    await looked.look()
    remedy = looked._alerts.open["topics/rows"]["remedy"]
    assert "topics apply" not in remedy
    assert "A changelog that has lost rows" in remedy


@pytest.mark.usefixtures("at_once")
async def test_a_changelog_with_more_partitions_is_no_problem_and_one_with_fewer_is() -> None:
    cluster = OneCluster({"events": "first-events"})
    looked = changes(cluster)
    cluster.answers = [FOUR | {"rows": TopicSeen("first-rows", 6)}]
    await looked.look()
    assert looked._alerts.open == {}
    cluster.answers = [FOUR | {"rows": TopicSeen("second-rows", 2)}]
    await looked.look()
    assert looked._alerts.open.keys() == {"partitions/rows"}
    assert "Alert partitions" in looked._alerts.open["partitions/rows"]["remedy"]


@pytest.mark.usefixtures("at_once")
async def test_one_answer_of_a_broker_that_is_behind_changes_nothing() -> None:
    cluster = OneCluster({"events": "first-events"})
    looked = changes(cluster)
    cluster.answers = [FOUR]
    await looked.look()
    cluster.answers = [FOUR | {"events": None}, FOUR]
    await looked.look()
    assert looked._alerts.open == {}


@pytest.mark.usefixtures("at_once")
async def test_a_topic_of_another_id_is_taken_over_anew_once() -> None:
    cluster = OneCluster({"events": "first-events"})
    looked = changes(cluster)
    cluster.answers = [FOUR | {"events": TopicSeen("second", 4), "letters": TopicSeen("second", 4)}]
    await looked.look()
    assert (cluster.rejoined, looked._alerts.open) == (1, {})
    for known in ({}, {"events": "second"}):  # in the rebalance, and after it
        cluster.topic_ids = known
        await looked.look()
    assert cluster.rejoined == 1


@pytest.mark.usefixtures("at_once")
async def test_partitions_that_nobody_reads_are_named_with_the_counts() -> None:
    cluster = OneCluster({})
    looked = changes(cluster)
    grown = {name: TopicSeen(name, 6) for name in ("events", "errors")}
    cluster.answers = [FOUR | grown]
    await looked.look()
    assert looked._alerts.open.keys() == {"partitions/events"}  # an error topic may grow
    about = looked._alerts.open["partitions/events"]
    assert (about["partitions"], about["in_use"], about["started_with"]) == (6, 4, 4)
    cluster.answers = [FOUR | {"letters": TopicSeen("letters", 6), "errors": TopicSeen("errors", 1)}]
    await looked.look()
    assert looked._alerts.open.keys() == {"partitions/letters", "partitions/errors"}
    assert "restart all workers" in looked._alerts.open["partitions/letters"]["remedy"]


PLACE = TopicPartition("events", 0)
FIRST, SECOND = TopicSeen("first", 4), TopicSeen("second", 4)


def test_a_commit_carries_the_id_of_its_topic_and_counts_for_no_other() -> None:
    lives = TopicLives()
    lives.begin({"events": FIRST})
    lives.begin({"events": SECOND})  # a look at the commits in between: the units read the first one all the same
    commit = lives.commit(PLACE, 57)
    assert commit == (57, '{"v":1,"topic":"first"}')
    assert not lives.is_old(PLACE, commit, FIRST)
    assert lives.is_old(PLACE, commit, SECOND)
    assert TopicLives().is_old(PLACE, commit, SECOND)  # another process sees it too
    assert not lives.is_old(PLACE, commit, None)


def test_a_commit_without_an_id_is_old_until_there_is_another_one() -> None:
    lives = TopicLives()
    without = OffsetAndMetadata(57, "")
    assert not lives.is_old(PLACE, without, FIRST)
    lives.begin({"events": FIRST})
    lives.end()
    for _ in range(2):  # a takeover that is tried twice
        assert lives.is_old(PLACE, without, SECOND)
        lives.begin({"events": SECOND})
    lives.end()
    assert lives.is_old(PLACE, without, SECOND)
    assert not lives.is_old(PLACE, OffsetAndMetadata(3, ""), SECOND)


GROWN = FOUR | {"events": TopicSeen("first-events", 5), "letters": TopicSeen("first-letters", 5)}


@pytest.mark.usefixtures("at_once")
async def test_a_source_with_another_count_is_known_at_the_first_look_and_again_when_it_is_back() -> None:
    moved = set[str]()
    cluster = OneCluster({"events": "first-events"})
    looked = changes(cluster, moved)
    cluster.answers = [FOUR]
    await looked.look()
    assert moved == set()
    cluster.answers = [GROWN, FOUR]
    await looked.look()
    assert moved == {"events"}, "one answer is enough: the next record may be hashed by the new count"
    cluster.answers = [FOUR | {"events": None}]
    await looked.look()
    assert moved == {"events"}
    cluster.answers = [FOUR]
    await looked.look()
    assert moved == set()


async def test_who_asks_for_the_count_has_one_that_is_fresh_enough_and_all_who_wait_have_the_same() -> None:
    class Slow(OneCluster):
        async def see_topics(self, names: Iterable[str]) -> dict[str, TopicSeen | None]:
            await asyncio.sleep(0)
            return await super().see_topics(names)

    moved = set[str]()
    cluster = Slow({})
    looked = changes(cluster, moved)
    cluster.answers = [FOUR, GROWN, FOUR]
    await looked.ask(60)
    await looked.ask(60)
    assert (len(cluster.answers), moved) == (2, set())
    await looked.ask(0)
    assert moved == {"events"}
    cluster.answers = [FOUR] * 10
    await asyncio.gather(*(looked.ask(0) for _ in range(5)))
    assert len(cluster.answers) >= 8, "who waits takes what was asked for after it came"
    assert moved == {"events"}, "only a second look says that it is back"


async def test_who_asks_while_no_broker_answers_goes_on_with_what_is_known() -> None:
    class Silent(OneCluster):
        async def see_topics(self, names: Iterable[str]) -> dict[str, TopicSeen | None]:
            raise KafkaConnectionError

    moved = {"events"}
    await changes(Silent({}), moved).ask(0)
    assert moved == {"events"}
