"""An erasure that can't be done now or here says why, and nothing of it is lost (D10)."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from pipeline.broker import EmbeddedBroker
from pipeline.core.routing import partition_of
from tests.behaviour.commandline import CommandLine
from tests.kafka.waiting import until

TOKEN = "a token of 20 letters"
WITHIN_S = 60
USER = b"7"
PARTITION = partition_of(USER, 2)


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def cli(broker: EmbeddedBroker, tmp_path: Path) -> CommandLine:
    """An application of its own; its topics of the catalogue are shared by the tests of this module."""
    cli = CommandLine(broker.url, tmp_path, web_token=TOKEN, session_timeout_s="6", app_id=f"erase-{uuid4().hex[:8]}")
    cli("topics", "apply").fine()
    return cli


def comment() -> bytes:
    body = {"msg_id": str(uuid4()), "type": "comment.created", "data": {"user_id": 7, "msg": "x"}}
    return json.dumps(body).encode()


async def send(broker: EmbeddedBroker) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all") as producer:
        await producer.send_and_wait("user-events", comment(), key=USER, partition=PARTITION)


async def asked(url: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    def ask() -> tuple[int, dict[str, Any]]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{url}{path}", data, {"Authorization": f"Bearer {TOKEN}"})
        try:
            with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused)

    return await asyncio.to_thread(ask)


async def test_a_source_that_ends_with_what_is_no_record_doesnt_make_it_wait_for_ever(
    broker: EmbeddedBroker, cli: CommandLine
) -> None:
    """Aborted records and the markers of transactions: no record ever comes from those offsets."""
    with cli.worker(web_port="0", agents="user-events") as url:
        async with AIOKafkaProducer(
            bootstrap_servers=broker.bootstrap, acks="all", transactional_id="upstream"
        ) as producer:
            for end in (producer.commit_transaction, producer.abort_transaction):
                await producer.begin_transaction()
                await producer.send_and_wait("user-events", comment(), key=USER, partition=PARTITION)
                await end()
        status, found = await asked(url, "/erase", {"agent": "user-events", "key": "7", "dry_run": False})
    assert status == 200, found
    assert found["rows"]["comments"] == 1


async def test_a_partition_that_waits_for_the_database_is_named_and_done_later(
    broker: EmbeddedBroker, cli: CommandLine, tmp_path: Path
) -> None:
    away = f"sqlite:///{tmp_path / 'not-yet' / 'read-model.sqlite3'}"
    await send(broker)
    with cli.worker(web_port="0", database_url=away) as url:

        async def blocked() -> bool:
            return bool((await asked(url, "/health/ready"))[1]["blocked"])

        await until(blocked, WITHIN_S, "the read model waits for its database")
        read_model = {"agent": "read-model", "key": "7", "dry_run": False}
        status, found = await asked(url, "/erase", read_model)
        assert status == 503
        assert "blocked (database)" in found["error"]
        status, found = await asked(url, "/erase", {**read_model, "agent": "user-events"})
        assert status == 503
        said = (await asyncio.to_thread(cli, "erase", "7", "--worker", url)).failed(1)
        assert "try again" in said
        (tmp_path / "not-yet").mkdir()

        async def done() -> bool:
            return not (await asked(url, "/health/ready"))[1]["blocked"]

        await until(done, WITHIN_S, "the database is there")
        rows = (await asyncio.to_thread(cli, "erase", "7", "--worker", url, "--json")).fine().rows
    counts = {(row["where"].partition("[")[0], row["name"]): row["count"] for row in rows if row["place"] != "topic"}
    assert counts["user-events", "comments"] == 1, "the refused tries erased nothing"
    assert counts["read model", "comment_counts"] == 1


async def test_each_partition_is_erased_by_the_worker_that_has_it(broker: EmbeddedBroker, cli: CommandLine) -> None:
    await send(broker)
    with (
        cli.worker(web_port="0", agents="user-events", instance="one") as first,
        cli.worker(web_port="0", agents="user-events", instance="two") as second,
    ):

        async def owners() -> list[str] | None:
            said = [(url, (await asked(url, "/health/ready"))[1]) for url in (first, second)]
            if sorted(number for _, one in said for number in one.get("partitions", ())) != [0, 1]:
                return None
            return [url for url, one in sorted(said, key=lambda one: PARTITION not in one[1]["partitions"])]

        owner, other = await until(owners, WITHIN_S, "the two workers share the partitions")
        there = ("erase", "7", "--worker", other)
        said = (await asyncio.to_thread(cli, *there, agents="user-events")).failed(1)
        assert f"partition {PARTITION} of user-events is not here" in said
        assert "--worker URL" in said
        rows = (await asyncio.to_thread(cli, *there, "--worker", owner, "--json", agents="user-events")).fine().rows
    assert [row["count"] for row in rows if row["name"] == "comments"] == [1]
