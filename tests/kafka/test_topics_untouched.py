"""By Kafka's defaults, asking about a topic may create it. Only `topics apply` creates topics, as they are declared."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.ops.plan import Difference
from pipeline.ops.topics import apply
from tests.behaviour.commandline import CommandLine
from tests.gateway.gateways import application, comment
from tests.gateway.writers import running
from tests.kafka import requests
from tests.kafka.cluster import KafkaCluster, _run
from tests.kafka.waiting import until
from tests.outbox.databases import SqliteDatabase, insert
from tests.outbox.trial import RelayProcess

pytestmark = [pytest.mark.kafka, pytest.mark.versions, pytest.mark.timeout(180)]

EVENT = '{"key": "1", "value": {"text": "hello"}}'
NOBODY = "http://127.0.0.1:1"
COMMANDS: dict[str, tuple[int, str]] = {
    "topics plan": (1, ""),
    "doctor": (1, ""),
    "errors list": (1, ""),
    "errors show 0-0": (1, ""),
    "tables dump comments": (1, ""),
    f"tables get comments 1 --worker {NOBODY}": (1, ""),
    "send typo": (1, EVENT),
    "send user-events": (1, EVENT),
    "contracts explain user-events": (1, "{}"),
    f"erase 1 --dry-run --worker {NOBODY}": (1, ""),
    f"erase 1 --worker {NOBODY}": (1, ""),
    "worker": (2, ""),
}
"""Command → its exit status where there is no topic, and its input."""
CUSTODY_S = 3.0
"""For so long a gateway that holds a message for a missing topic is watched: it asks for the topic all the time."""
DECLARED = {
    **dict.fromkeys(["user-events", "team-events", "comment-counts", "messages", "notifications"], "delete"),
    **dict.fromkeys(["hardparts.errors", "hardparts.audit"], "delete"),
    **{f"hardparts-{agent}-changelog": "compact" for agent in ("user-events", "notification-sender", "read-model")},
}


@pytest.fixture
def empty(kafka: KafkaCluster) -> Iterator[KafkaCluster]:
    """The broker without any topic but Kafka's own; a command of a test that fails may have left some."""
    kafka.reset()
    yield kafka
    kafka.reset()


async def test_what_is_seen_here_is_seen_a_client_that_asks_about_a_topic_creates_it(empty: KafkaCluster) -> None:
    assert await requests.topics(empty.bootstrap) == {}
    await requests.ask_and_create(empty.bootstrap, "typo")
    assert await requests.topics(empty.bootstrap) == {"typo": 1}


@pytest.mark.parametrize("command", COMMANDS)
async def test_no_command_creates_a_topic(empty: KafkaCluster, tmp_path: Path, command: str) -> None:
    code, stdin = COMMANDS[command]
    cli = CommandLine(f"kafka://{empty.bootstrap}", tmp_path, web_token="secret")
    ended = await asyncio.to_thread(cli, *command.split(), stdin=stdin)
    assert ended.code == code, (ended.out, ended.err)
    assert await requests.topics(empty.bootstrap) == {}


async def test_a_misspelt_topic_is_reported_and_not_created_beside_the_others(
    empty: KafkaCluster, tmp_path: Path
) -> None:
    cli = CommandLine(f"kafka://{empty.bootstrap}", tmp_path)
    (await asyncio.to_thread(cli, "topics", "apply")).fine()
    before = await requests.topics(empty.bootstrap)
    said = (await asyncio.to_thread(cli, "send", "user-event", stdin=EVENT)).failed(1)
    assert "user-event" in said
    assert await requests.topics(empty.bootstrap) == before


async def test_a_gateway_creates_no_topic_for_what_it_is_sent(empty: KafkaCluster, tmp_path: Path) -> None:
    cli = CommandLine(f"kafka://{empty.bootstrap}", tmp_path, gateway_port="0")
    async with running(cli) as (_, ask):
        assert (await ask.post(comment(), topic="typo")).status == 404
        assert (await ask.post(comment())).status == 202
        await asyncio.sleep(CUSTODY_S)
        assert await ask.waiting() == 1
    assert await requests.topics(empty.bootstrap) == {}


async def test_an_outbox_creates_no_topic_for_its_rows(empty: KafkaCluster, tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path)
    insert(database, ("typo", "1", "{}"))
    relay = RelayProcess(database, empty.bootstrap, tmp_path)
    try:
        await until(lambda: "typo" in relay.said(), 60, "the relay says that the topic is missing")
    finally:
        relay.kill()
    assert await requests.topics(empty.bootstrap) == {}


async def test_apply_on_an_empty_broker_makes_each_topic_as_declared(empty: KafkaCluster, tmp_path: Path) -> None:
    cli = CommandLine(f"kafka://{empty.bootstrap}", tmp_path, partitions="3")
    (await asyncio.to_thread(cli, "topics", "apply")).fine()
    assert await requests.topics(empty.bootstrap) == dict.fromkeys(DECLARED, 3)
    assert await requests.cleanup_policies(empty.bootstrap, DECLARED) == DECLARED


async def test_a_source_that_another_client_has_created_first_holds_up_its_own_agent_only(
    empty: KafkaCluster, tmp_path: Path
) -> None:
    await requests.ask_and_create(empty.bootstrap, "user-events")
    cli = CommandLine(f"kafka://{empty.bootstrap}", tmp_path, partitions="3")
    refused = await asyncio.to_thread(cli, "topics", "apply")
    assert refused.code == 1
    assert "another client created it; if it is empty, delete it" in refused.out
    held_up = {"user-events", "team-events", "hardparts-user-events-changelog"}
    expected = dict.fromkeys(DECLARED.keys() - held_up, 3)
    assert await requests.topics(empty.bootstrap) == expected | {"user-events": 1}
    await requests.delete_topic(empty.bootstrap, "user-events")
    (await asyncio.to_thread(cli, "topics", "apply")).fine()
    assert await requests.topics(empty.bootstrap) == dict.fromkeys(DECLARED, 3)


async def test_apply_on_three_brokers_gives_each_topic_its_replicas(kafka3: KafkaCluster, tmp_path: Path) -> None:
    kafka3.reset()
    cli = CommandLine(f"kafka://{kafka3.bootstrap}", tmp_path, partitions="3", replication="3")
    (await asyncio.to_thread(cli, "topics", "apply")).fine()
    assert await requests.topics(kafka3.bootstrap) == dict.fromkeys(DECLARED, 3)
    assert await requests.replicas(kafka3.bootstrap) == {topic: {3} for topic in DECLARED}


async def test_apply_refuses_a_topic_that_another_client_has_created_otherwise_meanwhile(
    empty: KafkaCluster, tmp_path: Path
) -> None:
    app = application(tmp_path, broker=f"kafka://{empty.bootstrap}", partitions=3)

    def once_the_first_is_made(done: Difference) -> None:
        if done.topic == "user-events":
            _run(requests.ask_and_create(empty.bootstrap, "team-events"))

    result = await apply(app, False, once_the_first_is_made)
    (refused,) = result.refused
    assert (refused.topic, refused.kind, refused.wanted, refused.found) == ("team-events", "partitions", "3", "1")
    assert refused.refused
    expected = {"user-events": 3, "team-events": 1, "hardparts.errors": 3, "hardparts.audit": 3}
    assert await requests.topics(empty.bootstrap) == expected
