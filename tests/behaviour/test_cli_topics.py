"""`hardparts topics`: what it finds, makes and refuses (O5)."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from pipeline.broker import EmbeddedBroker
from pipeline.ops.plan import Wanted, plan, unequal
from pipeline.runtime.admin import TopicFound, connect
from pipeline.runtime.settings import Settings
from tests.behaviour.commandline import CommandLine
from tests.kafka.cluster import KafkaCluster

CHANGELOG = "hardparts-user-events-changelog"
WANTED = Wanted("letters", 6, 1, {"cleanup.policy": "delete"}, ordered=True)
IN_SYNC = {"letters": {"cleanup.policy": "delete"}}


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def cli(broker: EmbeddedBroker, tmp_path: Path) -> CommandLine:
    return CommandLine(broker.url, tmp_path)


async def _with_admin(broker: EmbeddedBroker, change: str, **config: str) -> None:
    async with connect(Settings(broker=broker.url)) as admin:
        await admin.configure(change, config)


async def _partitions(broker: EmbeddedBroker) -> dict[str, int]:
    async with connect(Settings(broker=broker.url)) as admin:
        return {name: found.partitions for name, found in (await admin.topics()).items()}


async def _made(broker: EmbeddedBroker, **partitions: int) -> None:
    async with connect(Settings(broker=broker.url)) as admin:
        for name, count in partitions.items():
            await admin.create(name, count, 1, {})


async def _config(broker: EmbeddedBroker, topic: str) -> dict[str, str]:
    async with connect(Settings(broker=broker.url)) as admin:
        return (await admin.configs([topic]))[topic]


def test_apply_makes_what_plan_shows_and_then_there_is_nothing_to_do(cli: CommandLine, broker: EmbeddedBroker) -> None:
    planned = cli("topics", "plan", "--json")
    assert planned.code == 1
    missing = {row["topic"] for row in planned.rows}
    assert {row["kind"] for row in planned.rows} == {"missing"}
    assert {"user-events", "comment-counts", "hardparts.errors", CHANGELOG} <= missing
    assert cli("topics", "apply").fine().out.count("create, 2 partitions") == len(missing)
    assert asyncio.run(_partitions(broker)) == dict.fromkeys(missing, 2)
    assert asyncio.run(_config(broker, CHANGELOG))["cleanup.policy"] == "compact"
    assert cli("topics", "plan").fine().out == "nothing to do\n"
    assert cli("topics", "plan", "--json").fine().rows == []

    # a setting that somebody changed is mended, others are left alone
    asyncio.run(_with_admin(broker, CHANGELOG, **{"cleanup.policy": "delete", "segment.bytes": "1048576"}))
    (mended,) = cli("topics", "apply", "--json").fine().rows
    assert (mended["topic"], mended["kind"], mended["state"]) == (CHANGELOG, "config", "done")
    config = asyncio.run(_config(broker, CHANGELOG))
    assert (config["cleanup.policy"], config["segment.bytes"]) == ("compact", "1048576")


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_setting_that_differs_from_the_topics_of_the_agents_changes_nothing_and_is_named(
    cli: CommandLine, broker: EmbeddedBroker, force: list[str]
) -> None:
    """A shell without HARDPARTS_PARTITIONS has 8: growing the sources would part their keys from their state."""
    cli("topics", "apply").fine()
    before = asyncio.run(_partitions(broker))
    refused = cli("topics", "apply", "--json", *force, partitions="8")
    assert refused.code == 1
    assert {row["topic"]: row["state"] for row in refused.rows} == dict.fromkeys(before, "refused")
    reasons = {row["topic"]: row["refused"] for row in refused.rows}
    assert all("set HARDPARTS_PARTITIONS=2" in reason for reason in reasons.values())
    assert "75% of keys would move" in reasons["user-events"]
    assert not any("--force" in reason for reason in reasons.values())
    assert asyncio.run(_partitions(broker)) == before

    # a worker goes by the topics and says so
    with cli.running("worker", partitions="8") as worker:
        assert worker.stdout
        assert worker.stdout.readline().startswith("ready partitions=0,1 ")
        worker.terminate()
        assert worker.wait(30) == 0
        assert worker.stderr
        (said,) = [line for line in worker.stderr if "HARDPARTS_PARTITIONS" in line]
    assert "HARDPARTS_PARTITIONS is 8, but the topics of the agents have 2 partitions" in said
    assert "set HARDPARTS_PARTITIONS=2" in said


def test_a_missing_topic_is_not_made_with_another_count_than_the_topics_of_the_agents(
    cli: CommandLine, broker: EmbeddedBroker
) -> None:
    there = {"user-events": 4, "comment-counts": 4, CHANGELOG: 4}
    asyncio.run(_made(broker, **there))
    refused = cli("topics", "apply", "--json", partitions="8")
    assert refused.code == 1
    partitions = [row for row in refused.rows if row["kind"] != "config"]
    assert {row["state"] for row in partitions} == {"refused"}
    assert all("set HARDPARTS_PARTITIONS=4" in row["refused"] for row in partitions)
    assert asyncio.run(_partitions(broker)) == there
    assert "HARDPARTS_PARTITIONS=4" in cli("doctor", partitions="8").out
    cli("topics", "apply", partitions="4").fine()


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_no_partitions_are_added_to_what_an_agent_reads(
    cli: CommandLine, broker: EmbeddedBroker, force: list[str]
) -> None:  # O5
    asyncio.run(_made(broker, **{"user-events": 1, "team-events": 2}))
    refused = cli("topics", "apply", "--json", *force)
    assert refused.code == 1
    reasons = {row["topic"]: row["refused"] for row in refused.rows if row["state"] == "refused"}
    assert reasons.keys() == {"user-events", CHANGELOG}
    assert reasons["user-events"].startswith("another client created it; if it is empty, delete it")
    assert reasons["user-events"].endswith("to keep it, set HARDPARTS_PARTITIONS=1")
    assert "user-events has 1: another client created it" in reasons[CHANGELOG]
    made = asyncio.run(_partitions(broker))
    assert made["user-events"] == 1
    assert made["comment-counts"] == 2


def test_a_worker_refuses_unequal_counts(cli: CommandLine, broker: EmbeddedBroker) -> None:
    cli("topics", "apply").fine()

    async def grown() -> None:
        async with connect(Settings(broker=broker.url)) as admin:
            await admin.grow("user-events", 3)

    asyncio.run(grown())
    said = cli("worker", partitions="3").failed(2)
    assert "user-events has 3" in said
    assert f"{CHANGELOG} has 2" in said

    # with the setting that fits the changelog, nobody is sent round in a circle
    refused = cli("topics", "apply", "--json")
    assert {row["topic"]: row["refused"] for row in refused.rows} == {
        "user-events": "somebody has added partitions: keep the setting, see docs/runbook.md, Alert partitions"
    }
    assert "Alert partitions" in cli("doctor").out


def test_a_topic_that_another_client_has_created_first_holds_up_its_own_agent_only(
    cli: CommandLine, broker: EmbeddedBroker
) -> None:
    asyncio.run(_made(broker, messages=1))
    refused = cli("topics", "apply", "--json")
    reasons = {row["topic"]: row["refused"] for row in refused.rows if row["state"] == "refused"}
    assert reasons.keys() == {"messages", "comment-counts", "hardparts-read-model-changelog"}
    assert all("another client created it" in reason for reason in reasons.values())
    made = asyncio.run(_partitions(broker))
    assert (made["user-events"], made[CHANGELOG], made["hardparts.errors"]) == (2, 2, 2)
    # the others have their changelogs now, so the setting stays
    assert "to keep it, declare 1 in the catalogue" in cli("topics", "plan").out
    assert "workers go by the topics" not in cli("doctor").out


def test_a_changelog_with_more_partitions_than_its_sources_is_left_alone(
    cli: CommandLine, broker: EmbeddedBroker
) -> None:
    cli("topics", "apply").fine()

    async def grown() -> None:
        async with connect(Settings(broker=broker.url)) as admin:
            await admin.grow(CHANGELOG, 3)

    asyncio.run(grown())
    assert cli("topics", "plan").fine().out == "nothing to do\n"
    assert "topics: all" in cli("doctor").fine().out
    with cli.running("worker") as worker:
        assert worker.stdout
        assert worker.stdout.readline().startswith("ready partitions=0,1 ")


async def test_a_changelog_whose_agent_has_read_its_sources_is_made_again_by_force_only(
    cli: CommandLine, broker: EmbeddedBroker
) -> None:
    (await asyncio.to_thread(cli, "topics", "apply")).fine()
    group = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, group_id="hardparts", enable_auto_commit=False)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    await group.start()
    try:
        await admin.delete_topics([CHANGELOG])
        group.assign([TopicPartition("user-events", 1)])
        planned = (await asyncio.to_thread(cli, "topics", "plan", "--json")).rows
        assert [(row["topic"], row["refused"]) for row in planned] == [(CHANGELOG, "")]
        await group.commit({TopicPartition("user-events", 1): 3})
    finally:
        await group.stop()
        await admin.close()
    refused = await asyncio.to_thread(cli, "topics", "apply")
    assert refused.code == 1
    for said in (refused.out, (await asyncio.to_thread(cli, "doctor")).out):
        assert "the state was in it: stop the workers" in said
        assert "--force creates an empty one" in said
    ended = (await asyncio.to_thread(cli, "worker")).failed(2)
    assert f"changelogs missing: {CHANGELOG}: the state was in it" in ended
    assert "topics apply" not in ended
    (await asyncio.to_thread(cli, "topics", "apply", "--force")).fine()
    assert "topics: all" in (await asyncio.to_thread(cli, "doctor")).fine().out


def test_a_broker_that_is_not_there_is_named_at_once_and_one_that_hangs_is_given_up(
    cli: CommandLine, broker: EmbeddedBroker
) -> None:
    address = broker.bootstrap
    assert broker.pid
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        loop_time = asyncio.new_event_loop().time
        started = loop_time()
        said = cli("topics", "plan").failed(1)
        assert loop_time() - started < 60  # of these the command waits 8; the rest is for a busy machine
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    assert address in said
    broker.stop()
    said = cli("topics", "plan").failed(1)
    assert address in said
    assert "HARDPARTS_BROKER" in said


def test_wrong_settings_and_a_broken_application_exit_2_with_one_line(cli: CommandLine, tmp_path: Path) -> None:
    assert "--broker" in cli("topics", "plan", "--broker", "http://x").failed(2)
    assert "HARDPARTS_PARTITIONS" in cli("topics", "plan", partitions="none").failed(2)
    assert "nowhere" in cli("topics", "plan", "--app", "nowhere:app").failed(2)
    broken = tmp_path / "broken_application.py"
    broken.write_text("def\n")
    cli.environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    said = cli("topics", "plan", "--app", "broken_application:app").failed(2)
    assert f"{broken}:1" in said


def test_more_partitions_of_an_ordered_topic_are_refused_with_the_share_of_keys_that_would_move() -> None:  # O5
    (difference,) = plan([WANTED], {"letters": TopicFound(5, 5, 1)}, IN_SYNC)
    assert "83% of keys would move" in difference.refused
    (forced,) = plan([WANTED], {"letters": TopicFound(5, 5, 1)}, IN_SYNC, force=True)
    assert forced.refused == ""


@pytest.mark.parametrize("force", [False, True])
def test_fewer_partitions_and_more_for_an_agent_with_state_are_refused_even_when_forced(force: bool) -> None:  # O5
    (fewer,) = plan([WANTED], {"letters": TopicFound(7, 7, 1)}, IN_SYNC, force)
    assert "declare 7" in fewer.refused
    bound, changelog = WANTED._replace(read_by="a"), WANTED._replace(name="rows", changelog_of="a", config={})
    found = dict.fromkeys(("letters", "rows"), TopicFound(5, 5, 1))
    for more in plan([bound, changelog], found, IN_SYNC, force):
        assert "83% of keys would move" in more.refused
        assert "declare 5" in more.refused


@pytest.mark.parametrize("force", [False, True])
def test_nothing_grows_while_the_counts_of_an_agent_are_unequal(force: bool) -> None:
    source = WANTED._replace(read_by="a", by_setting=True, config={})
    changelog = source._replace(name="rows", changelog_of="a", read_by=None, ordered=False)
    errors = WANTED._replace(name="errors", ordered=False, by_setting=True, config={})
    output = errors._replace(name="parcels", ordered=True)
    found = {"letters": TopicFound(7, 7, 1), "rows": TopicFound(6, 6, 1)}
    found |= dict.fromkeys(("errors", "parcels"), TopicFound(5, 5, 1))
    for setting, named in ((6, {"letters", "errors", "parcels"}), (7, {"rows", "errors", "parcels"})):
        declared = [topic._replace(partitions=setting) for topic in (source, changelog, errors, output)]
        refused = {one.topic: one.refused for one in plan(declared, found, {}, force)}
        assert refused.keys() == named
        assert all(refused.values())
    # a second source that is missing is made as the changelog needs it
    second = source._replace(name="more-letters")
    plans = {one.topic: one.refused for one in plan([source, second, changelog], found, {}, force)}
    assert plans["more-letters"] == ""
    assert "keep the setting" in plans["letters"]


def test_a_source_that_another_client_created_anew_fits_no_changelog() -> None:
    source = WANTED._replace(read_by="a", by_setting=True, config={})
    changelog = source._replace(name="rows", changelog_of="a", read_by=None, ordered=False)
    found = {"letters": TopicFound(1, 1, 1), "rows": TopicFound(6, 6, 1)}
    (difference,) = plan([source, changelog], found, {})
    assert "Partition counts differ" in difference.refused


@pytest.mark.parametrize("force", [False, True])
def test_the_setting_is_named_when_all_topics_of_agents_have_one_other_count(force: bool) -> None:
    source = WANTED._replace(read_by="a", by_setting=True)
    changelog = WANTED._replace(name="rows", changelog_of="a", ordered=False, by_setting=True)
    errors = WANTED._replace(name="errors", ordered=False, by_setting=True)
    output = WANTED._replace(name="parcels", by_setting=True)
    found = dict.fromkeys(("letters", "rows", "errors", "parcels"), TopicFound(5, 5, 1))
    configs = dict.fromkeys(found, IN_SYNC["letters"])
    differences = plan([source, changelog, errors, output], found, configs, force)
    assert {one.topic for one in differences} == found.keys()
    assert all("set HARDPARTS_PARTITIONS=5" in one.refused for one in differences)

    # an application whose own topics have the setting's count: the error topic grows with it
    found |= dict.fromkeys(("letters", "rows"), TopicFound(6, 6, 1))
    grown = {one.topic: one.refused for one in plan([source, changelog, errors, output], found, configs, force)}
    assert grown.keys() == {"errors", "parcels"}
    assert grown["errors"] == ""
    assert (grown["parcels"] == "") == force


def test_an_unordered_topic_may_have_more_partitions_than_declared() -> None:
    assert plan([WANTED._replace(ordered=False)], {"letters": TopicFound(7, 7, 1)}, IN_SYNC) == []


def test_an_agent_whose_topics_are_declared_with_unequal_counts_is_named() -> None:
    (difference,) = unequal("postman", [WANTED, WANTED._replace(name="parcels", partitions=7)])
    assert "letters: 6, parcels: 7" in str(difference)
    assert "postman" in difference.refused
    assert unequal("postman", [WANTED, WANTED._replace(name="parcels")]) == []


def test_a_replication_that_the_cluster_cannot_give_is_refused_with_topic_and_remedy(cli: CommandLine) -> None:
    said = cli("topics", "apply", replication="3").failed(1)
    assert "InvalidReplicationFactorError: user-events" in said
    assert "HARDPARTS_REPLICATION" in said


@pytest.mark.kafka
@pytest.mark.versions
def test_apache_kafka_is_brought_to_the_catalogue_and_its_ordered_topics_are_left_alone(tmp_path: Path) -> None:  # O5
    with KafkaCluster(1, tmp_path / "kafka") as kafka:
        cli = CommandLine(f"kafka://{kafka.bootstrap}", tmp_path, partitions="5")
        cli("topics", "apply").fine()
        assert cli("topics", "plan").fine().out == "nothing to do\n"

        async def changed(**config: str) -> dict[str, str]:
            async with connect(Settings(broker=f"kafka://{kafka.bootstrap}")) as admin:
                await admin.configure("messages", config)
                return (await admin.configs(["messages"]))["messages"]

        asyncio.run(changed(**{"cleanup.policy": "compact", "segment.bytes": "2000000"}))
        (mended,) = cli("topics", "apply", "--json").fine().rows
        assert (mended["topic"], mended["kind"]) == ("messages", "config")
        after = asyncio.run(changed(**{"retention.ms": "86400000"}))
        assert (after["cleanup.policy"], after["segment.bytes"]) == ("delete", "2000000")
        refused = cli("topics", "apply", partitions="6")
        assert refused.code == 1
        assert "83% of keys would move" in refused.out
        assert "topics: all" in cli("doctor").fine().out  # nothing that is ordered was changed
