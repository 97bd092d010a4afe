"""A source whose records another partitioner has placed: who starts, what is said, and where each tool puts a key."""

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import aiohttp
import pytest
from confluent_kafka import Producer

from pipeline.core.routing import partition_of
from pipeline.core.topic import Topic
from pipeline.producer import ReliableProducer
from pipeline.runtime.agent import Definition
from pipeline.runtime.partitioners import look
from tests.behaviour.place import Place
from tests.kafka.waiting import until
from tests.oracle.records import COMMENT_COUNTS, TEAM_EVENTS, USER_EVENTS, Record
from tests.outbox.databases import SqliteDatabase, insert

APP = "tests.kafka.apps.other_partitioner:app"
PARTITIONS = 4
TOKEN = "a token of 20 letters"
LINE = 'Topic("user-events", …, partitioner="crc32")'


def event(user: int | str) -> bytes:
    data = {"user_id": user, "msg": "x"}
    return json.dumps({"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": data}).encode()


def by_crc32(key: bytes) -> int:
    return crc32(key) % PARTITIONS


def librdkafka(bootstrap: str, users: Any, **settings: str) -> None:
    """Written by a client that most languages use, with its default partitioner unless a setting says otherwise."""
    producer = Producer({"bootstrap.servers": bootstrap, **settings})
    for user in users:
        producer.produce(USER_EVENTS, event(user), key=str(user).encode())
    assert producer.flush(20) == 0


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path, app=APP, agents=["counting"], partitions=PARTITIONS, web_token=TOKEN) as running:
        yield running


def declared(place: Place, partitioner: str) -> None:
    """What the application declares from here on."""
    place.cli.environment["TEST_PARTITIONER"] = partitioner
    place.cli.environment["HARDPARTS_WEB_PORT"] = "0"


def partitioners(place: Place) -> list[dict[str, Any]]:
    rows = place.cli("doctor", "--json").rows
    return [row for row in rows if row["check"] == "partitioners"]


async def counted(place: Place, users: int) -> dict[str, list[int]]:
    """user → counts as they came, once each of so many users has one."""
    deadline = time.monotonic() + 30
    while True:
        found: dict[str, list[int]] = {}
        for records in (await place.log(COMMENT_COUNTS)).values():
            for record in records:
                found.setdefault((record.key or b"").decode(), []).append(
                    json.loads(record.value or b"")["data"]["count"]
                )
        if len(found) == users or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_a_healthy_topic_of_librdkafka_ends_the_worker_with_2_and_the_line_to_write(place: Place) -> None:
    await asyncio.to_thread(librdkafka, place.bootstrap, range(60))
    for records in (await place.log(USER_EVENTS)).items():
        assert {by_crc32(record.key or b"") for record in records[1]} <= {records[0]}, "what crc32 is, the client says"
    declared(place, "murmur2")
    ended = place.cli("worker", web_port="0")
    assert ended.code == 2, ended.err
    assert LINE in ended.err
    assert not any((await place.log(f"{place.app_id}.errors")).values())
    (finding,) = partitioners(place)
    assert (finding["level"], LINE in finding["remedy"]) == ("FAIL", True)

    declared(place, "crc32")
    (finding,) = partitioners(place)
    assert finding["level"] == "ok"
    with place.cli.worker():
        assert await counted(place, 60) == {str(user): [1] for user in range(60)}
    assert not any((await place.log(f"{place.app_id}.errors")).values())


async def test_a_producer_that_is_changed_later_keeps_no_worker_from_starting(place: Place) -> None:
    """Nor is anybody told to declare another partitioner: all counts would begin anew in other partitions."""
    declared(place, "murmur2")
    await asyncio.to_thread(librdkafka, place.bootstrap, range(40), partitioner="murmur2_random")
    with place.cli.worker():
        assert await counted(place, 40) == {str(user): [1] for user in range(40)}
    await asyncio.to_thread(librdkafka, place.bootstrap, range(1000, 3000))
    (finding,) = partitioners(place)
    assert finding["level"] == "WARN"
    assert "are where crc32 puts them" in finding["detail"]
    assert "set the producers' partitioner to murmur2, see docs/runbook.md" in finding["remedy"]
    assert "Topic(" not in finding["remedy"]
    worker = await asyncio.to_thread(place.worker)
    log = worker.log

    async def blocked() -> bool:
        return log.read_text().count("blocks on partitioner") >= PARTITIONS

    await until(blocked, 30, "each partition blocks")
    assert "are where crc32 puts them" in log.read_text()
    assert "Topic(" not in log.read_text()
    assert worker.stop() == 0


async def arrived(place: Place, count: int) -> bool:
    return sum(map(len, (await place.log(USER_EVENTS)).values())) == count


@pytest.mark.slow
async def test_every_tool_puts_a_key_where_the_declaration_says(place: Place, tmp_path: Path) -> None:
    declared(place, "crc32")
    user = next(user for user in range(100) if by_crc32(b"%d" % user) != partition_of(b"%d" % user, PARTITIONS))
    key = b"%d" % user
    with place.cli.worker() as url:
        line = json.dumps({"key": str(user), "value": json.loads(event(user))})
        place.cli("send", USER_EVENTS, stdin=line).fine()
        with place.cli.running("gateway", gateway_port="0", gateway_token=TOKEN) as gateway:
            assert gateway.stdout
            at = gateway.stdout.readline().split()[-1]
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.post(f"{at}/events/{USER_EVENTS}", json=json.loads(event(user))) as answer,
            ):
                assert answer.status == 202, await answer.text()

            await until(partial(arrived, place, 2), 30, "what was sent and what the gateway took is on the topic")
        database = SqliteDatabase(tmp_path)
        insert(database, (USER_EVENTS, str(user), event(user).decode()))
        with place.cli.running("outbox", outbox_url=database.url, web_port="0"):
            await until(partial(arrived, place, 3), 30, "the outbox's row is on the topic")
        async with ReliableProducer(
            {"bootstrap_servers": place.bootstrap}, partitioners={USER_EVENTS: "crc32"}
        ) as producer:
            assert (await producer.produce(USER_EVENTS, None, event(user), key=key)).partition == by_crc32(key)
            assert (await producer.produce(USER_EVENTS, None, event(user), key=key)).partition == by_crc32(key)

        async def all_counted() -> bool:
            return await counted(place, 1) == {str(user): [1, 2, 3, 4, 5]}

        await until(all_counted, 30, "all of them are counted")
        assert {n for n, records in (await place.log(USER_EVENTS)).items() if records} == {by_crc32(key)}
        outputs = {n for n, records in (await place.log(COMMENT_COUNTS)).items() if records}
        assert outputs == {partition_of(key, PARTITIONS)}, "that topic declares murmur2"
        row = place.cli("tables", "get", "comments", str(user), "--worker", url).fine().rows
        assert row == [{"key": str(user), "value": 5}]
        erased = place.cli("erase", str(user), "--worker", url, "--json").fine().rows
        found = {(line["where"], line["name"]): line["count"] for line in erased if line["place"] == "state"}
        assert found[f"counting[{by_crc32(key)}]", "comments"] == 1
        assert found[f"counting[{by_crc32(key)}]", "marks"] == 5
        left = {line["where"]: line["count"] for line in erased if line["place"] == "topic"}
        assert left[f"{USER_EVENTS}[{by_crc32(key)}]"] == 5
        assert f"{place.app_id}-counting-changelog[{by_crc32(key)}]" in {line["where"] for line in erased}


@pytest.mark.slow
async def test_a_key_that_each_writer_may_put_anywhere_is_erased_everywhere(tmp_path: Path) -> None:
    with Place(tmp_path, app=APP, agents=["looking"], partitions=PARTITIONS, web_token=TOKEN) as place:
        for number in (0, 2):
            joined = {"msg_id": str(uuid.uuid4()), "type": "team.joined", "data": {"user_id": 7, "team_id": 1}}
            await place.send(TEAM_EVENTS, [(b"7", json.dumps(joined).encode())], number)
        with place.cli.worker(web_port="0") as url:

            def marks() -> dict[str, int]:
                rows = place.cli("erase", "7", "--worker", url, "--json").fine().rows
                return {row["where"]: row["count"] for row in rows if row["name"] == "marks"}

            assert marks() == {f"looking[{number}]": int(number in {0, 2}) for number in range(PARTITIONS)}
            assert set(marks().values()) == {0}
        assert not any((await place.log(f"{place.app_id}.errors")).values())


async def test_an_agent_with_state_refuses_a_source_that_leaves_it_open(place: Place) -> None:
    declared(place, "any")
    said = place.cli("worker").failed(2)
    assert "agent 'counting' keeps state, so it can't read user-events with partitioner 'any'" in said
    declared(place, "fnv1a")
    said = place.cli("worker").failed(2)
    assert "topic 'user-events' has partitioner='fnv1a': choose one of murmur2, crc32, any" in said


async def test_a_mixed_topic_is_named_at_the_start_and_the_worker_goes_on(place: Place) -> None:
    """librdkafka's murmur2_random is Java's partitioner."""
    declared(place, "murmur2")
    await asyncio.to_thread(librdkafka, place.bootstrap, range(40), partitioner="murmur2_random")
    (finding,) = partitioners(place)
    assert finding["level"] == "ok"
    user = next(user for user in range(40) if by_crc32(b"%d" % user) != partition_of(b"%d" % user, PARTITIONS))
    await asyncio.to_thread(librdkafka, place.bootstrap, [user] * 3)
    (finding,) = partitioners(place)
    assert finding["level"] == "WARN"
    assert f"key '{user}' in partition {by_crc32(b'%d' % user)} (crc32)" in finding["detail"]
    worker = await asyncio.to_thread(place.worker)
    assert await counted(place, 40) == {str(user): [1] for user in range(40)}
    assert "aren't where murmur2 puts them" in worker.log.read_text()

    async def strays() -> list[Record]:
        return [record for part in (await place.log(f"{place.app_id}.errors")).values() for record in part]

    async def rejected() -> bool:
        return len(await strays()) == 3

    await until(rejected, 30, "the strays are in the error topic")
    assert {dict(record.headers)["hp-error-class"] for record in await strays()} == {b"WrongPartition"}
    assert worker.stop() == 0


async def test_looking_at_records_makes_no_topic_is_quick_and_gives_up_when_nobody_answers(place: Place) -> None:
    missing = Definition("agent", (Topic("never-made"), Topic(USER_EVENTS)))
    options = {"bootstrap_servers": place.bootstrap}
    begun = time.monotonic()
    assert (await look([missing], {USER_EVENTS: PARTITIONS}, options, {})).doubts == {USER_EVENTS: None}
    assert time.monotonic() - begun < 2
    async with place._admin() as admin:
        assert "never-made" not in await admin.list_topics()
    begun = time.monotonic()
    looked = await look([missing], {USER_EVENTS: PARTITIONS}, {"bootstrap_servers": "127.0.0.1:1"}, {USER_EVENTS: "x"})
    (said,) = looked.doubts.values()
    assert looked.unread == set(), "nobody knows"
    assert said is not None
    assert not said.certain
    assert said.message.startswith(f"partitioners of {USER_EVENTS} not looked at (")
    assert time.monotonic() - begun < 6
