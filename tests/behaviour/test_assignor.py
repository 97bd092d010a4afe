"""What members of the group tell each other, and what they make of members of older versions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor

from agents import topics
from pipeline.core.membership import FIELD, Introduction, differences
from pipeline.core.outcome import Blocked
from pipeline.core.record import StoredRecord
from pipeline.core.strays import PARTITIONER
from pipeline.core.topic import Catalogue, Topic
from pipeline.runtime.agent import Agent
from pipeline.runtime.alerts import Alerts
from pipeline.runtime.app import App
from pipeline.runtime.assignor import Assignor
from pipeline.runtime.joining import OtherProtocol
from pipeline.runtime.membership import Definitions, blocked_units
from pipeline.runtime.settings import Settings

LOG = "a-counting-changelog"
COUNTS = dict.fromkeys(("user-events", "team-events", "messages", LOG, "a-mailing-changelog"), 4)


def worker(directory: Path, instance: str, sources: Sequence[Topic], *, mailing: bool = False, **settings: Any) -> App:
    """An application as a worker has it; nothing is started. mailing: it runs a second agent."""
    catalogue = Catalogue.of([topics.user_events, topics.team_events, topics.messages])
    app = App(
        catalogue=catalogue, modules=[], contracts=directory,
        settings=Settings(app_id="a", data_dir=directory, instance=instance, **settings),
    )  # fmt: skip
    Agent(app, "counting", sources=sources)
    if mailing:
        Agent(app, "mailing", sources=[topics.messages])
    app.finalize()
    for table in app.tables.data.values():
        app.tables._changelogs[table.changelog_topic.get_topic_name()] = table
    return app


def joins(app: App, *, older: bool = False) -> ConsumerProtocolMemberMetadata:
    """What a worker sends, through the wire. older: what one of an earlier version sends."""
    subscribed = {topic.name for agent in app.declared for topic in agent.sources}
    subscribed |= {app.changelog(agent) for agent in app.declared}
    kind = PartitionAssignor if older else Assignor
    sent = kind.metadata(app.assignor, subscribed)
    return ConsumerProtocolMemberMetadata.decode(sent.encode())


def assigned(leader: App, members: Mapping[str, ConsumerProtocolMemberMetadata], *, older: bool = False) -> Any:
    """What the leader gives, through the wire: member → what it receives."""
    cluster = ClusterMetadata()
    cluster._partitions = {topic: dict.fromkeys(range(count)) for topic, count in COUNTS.items()}
    if older:
        stock = PartitionAssignor(leader, leader.conf.table_standby_replicas)
        stock._member_urls = {}
        given = stock.assign(cluster, dict(members))
    else:
        given = leader.assignor.assign(cluster, dict(members))
    return {name: ConsumerProtocolMemberAssignment.decode(one.encode()) for name, one in given.items()}


def partitions(given: Any) -> dict[str, list[int]]:
    return {topic: sorted(numbers) for topic, numbers in given.assignment if numbers}


ONE, BOTH = [topics.user_events], [topics.user_events, topics.team_events]


@pytest.mark.parametrize("leader", ["old", "new"])
async def test_the_units_go_to_the_version_that_reads_all_sources_whoever_leads(tmp_path: Path, leader: str) -> None:
    apps = {"old": worker(tmp_path, "old", ONE), "new": worker(tmp_path, "new", BOTH)}
    given = assigned(apps[leader], {name: joins(app) for name, app in apps.items()})
    assert partitions(given["old"]) == {}
    assert partitions(given["new"]) == {t: [0, 1, 2, 3] for t in ("user-events", "team-events", LOG)}
    for name, app in apps.items():
        app.assignor.on_assignment(given[name])
        build = app.introduction().build
        assert app.assignor.differ == (
            f"agent counting: reads team-events and user-events: new ({build}); user-events: old ({build})",
        )


async def test_members_of_an_older_version_get_what_they_subscribe_to(tmp_path: Path) -> None:
    new, old = worker(tmp_path, "new", ONE), worker(tmp_path, "old", ONE)
    given = assigned(new, {"n": joins(new), "o": joins(old, older=True)})
    shares = sorted(partitions(one)[LOG] for one in given.values())
    assert [len(share) for share in shares] == [2, 2]
    assert all(partitions(one)["user-events"] == partitions(one)[LOG] for one in given.values())
    PartitionAssignor.on_assignment(old.assignor, given["o"])  # an older member understands it, and checks it
    assert {tp.topic for tp in old.assignor.assigned_actives()} == {"user-events", LOG}
    new.assignor.on_assignment(given["n"])
    assert new.assignor.differ == ("of a version that doesn't say what it runs: o",)


async def test_an_older_leader_understands_us_and_its_silence_is_an_alert(tmp_path: Path) -> None:
    new, old = worker(tmp_path, "new", ONE), worker(tmp_path, "old", ONE)
    given = assigned(old, {"n": joins(new), "o": joins(old, older=True)}, older=True)
    new.assignor.on_assignment(given["n"])
    assert new.assignor.assigned_actives()
    assert new.assignor.differ is None
    alerts = Alerts()
    Definitions(alerts).tell(new.assignor.differ)
    assert alerts.open["definitions"]["differences"] == [
        "the leader of the group is of a version that doesn't compare its members"
    ]


async def test_partitions_that_no_worker_has_given_out_are_not_taken(tmp_path: Path) -> None:
    """A broker that has turned the group into one of the newer protocol assigns by itself."""
    with pytest.raises(OtherProtocol, match="newer `consumer` protocol"):
        worker(tmp_path, "one", ONE).assignor.on_assignment(ConsumerProtocolMemberAssignment(0, [], b""))


async def test_an_older_member_that_reads_what_we_do_not_is_never_given_half_a_unit(tmp_path: Path) -> None:
    new, old = worker(tmp_path, "new", ONE), worker(tmp_path, "old", BOTH)
    given = assigned(new, {"n": joins(new), "o": joins(old, older=True)})
    for one in given.values():
        assert partitions(one)["user-events"] == partitions(one)[LOG]
        assert "team-events" not in partitions(one)  # which agent of the older version reads it isn't known


async def test_agents_that_only_an_older_version_runs_are_run_by_it(tmp_path: Path) -> None:
    new, old = worker(tmp_path, "new", ONE), worker(tmp_path, "old", ONE)
    theirs = joins(old, older=True)
    theirs = ConsumerProtocolMemberMetadata(
        theirs.version, [*theirs.subscription, "messages", "a-mailing-changelog"], theirs.user_data
    )
    given = assigned(new, {"n": joins(new), "o": theirs})
    assert partitions(given["o"])["messages"] == partitions(given["o"])["a-mailing-changelog"] == [0, 1, 2, 3]
    assert "messages" not in partitions(given["n"])


async def test_copies_of_agents_that_only_older_members_run_are_named_as_those_insist_on_it(tmp_path: Path) -> None:
    new = worker(tmp_path, "new", ONE, standby_replicas=1)
    olds = {name: worker(tmp_path, name, ONE, mailing=True) for name in ("b", "c")}
    given = assigned(new, {"a": joins(new), **{name: joins(old, older=True) for name, old in olds.items()}})
    for name, old in olds.items():
        assert partitions(given[name])["a-mailing-changelog"] == [0, 1, 2, 3]  # two to own, two to copy
        PartitionAssignor.on_assignment(old.assignor, given[name])  # it compares the two ways in which it is told
        assert sum(tp.topic == "a-mailing-changelog" for tp in old.assignor.assigned_standbys()) == 2


async def test_copies_of_an_agent_that_the_leader_does_not_run_arrive(tmp_path: Path) -> None:
    leader = worker(tmp_path, "leader", ONE, standby_replicas=1)
    others = {"b": worker(tmp_path, "b", ONE, mailing=True), "c": worker(tmp_path, "c", ONE, mailing=True)}
    given = assigned(leader, {"a": joins(leader), **{name: joins(app) for name, app in others.items()}})
    for name, app in others.items():
        assert partitions(given[name])["a-mailing-changelog"] == [0, 1, 2, 3]  # two to own, two to copy
        app.assignor.on_assignment(given[name])
        assert sum(tp.topic == "a-mailing-changelog" for tp in app.assignor.assigned_standbys()) == 2
        PartitionAssignor.on_assignment(app.assignor, given[name])  # an older version compares the two


async def test_what_a_member_says_survives_the_wire_and_unknown_fields(tmp_path: Path) -> None:
    app = worker(tmp_path, "one", BOTH)
    app._blocked = ("counting/3",)
    said = json.loads(joins(app).user_data)[FIELD]
    assert said["hp"] == 1
    assert Introduction.read(said | {"of a later version": True}) == app.introduction()
    assert Introduction.read(said)._asdict()["blocked"] == ("counting/3",)  # type: ignore[union-attr]
    assert ClientMetadata.loads(joins(app).user_data).assignment.actives == {}


def test_only_what_another_build_may_cure_makes_a_unit_change_builds() -> None:
    def unit(number: int, reason: str | None) -> Any:
        record = StoredRecord("user-events", number, 0, 0, None, None)
        blocked = Blocked(record, reason, "") if reason is not None else None
        return SimpleNamespace(
            agent=SimpleNamespace(name="counting"), partition=number, head=SimpleNamespace(blocked=blocked)
        )

    reasons = [None, "bug", "database", PARTITIONER, "broker", "clock", "mail", "ConnectionError", "offsets-moved"]
    units = [unit(number, reason) for number, reason in enumerate(reasons)]
    assert blocked_units(units) == ("counting/1", "counting/3")


@pytest.mark.parametrize("document", [None, 7, {}, {"hp": "x"}, {"hp": 1}, {"hp": 1, "instance": "a", "agents": 3}])
def test_what_is_not_an_introduction_is_none(document: object) -> None:
    assert Introduction.read(document) is None


def member(instance: str, *, guarantee: str = "at_least_once", **agents: str) -> Introduction:
    """agents: name → digest."""
    return Introduction(instance, "1", "1", (1, 2), guarantee, agents, dict.fromkeys(agents, ("a",)), (), "")


def test_every_kind_of_difference_has_its_line() -> None:
    assert differences({"1": member("one", x="d"), "2": member("two", x="d")}) == []
    assert differences({"1": member("one", x="d"), "2": member("two", x="e")}) == [
        "agent x: tables or partitioners differ: one (1) / two (1)"
    ]
    assert differences({"1": member("one", x="d"), "2": member("two", x="d", y="d")}) == ["agent y: not run by one (1)"]
    assert differences({"1": member("one", x="d"), "2": member("two", guarantee="exactly_once", x="d")}) == [
        "processing guarantee: at_least_once: one (1); exactly_once: two (1)"
    ]


def test_many_differences_are_bounded() -> None:
    crowd = {str(at): member(f"w{at}", **{f"agent{n}": str(at) for n in range(50)}) for at in range(50)}
    lines = differences(crowd)
    assert len(lines) == 20
    assert lines[-1] == "and 31 more"
    assert len(lines[0]) < 5000


def test_the_alert_opens_once_follows_what_changes_and_closes(caplog: pytest.LogCaptureFixture) -> None:
    alerts = Alerts()
    definitions = Definitions(alerts)
    definitions.tell(())
    assert not alerts.open
    for lines in (["a"], ["a"], ["b"], ["b"]):
        definitions.tell(lines)
    assert alerts.open["definitions"]["differences"] == ["a"]
    assert caplog.text.count("differ now: b") == 1
    definitions.tell(())
    assert not alerts.open


async def test_a_member_that_is_given_for_what_it_read_before_asks_for_a_rebalance_once(tmp_path: Path) -> None:
    before, after, asked = worker(tmp_path, "one", ONE), worker(tmp_path, "one", BOTH), []
    given = assigned(before, {"n": joins(before)})
    after.assignor.ask_for_rebalance = lambda: asked.append(1)
    for _ in range(2):
        after.assignor.on_assignment(given["n"])
    assert asked == [1]
    before.assignor.ask_for_rebalance = lambda: asked.append(2)
    before.assignor.on_assignment(given["n"])
    assert asked == [1]
