"""`hardparts gateway` as a process on the embedded broker: killed or stopped, what it accepted arrives."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from pipeline.broker import EmbeddedBroker
from pipeline.runtime.admin import connect
from pipeline.runtime.settings import read_settings
from tests.behaviour.commandline import CommandLine
from tests.gateway.gateways import TOPIC, Client, comment
from tests.gateway.writers import USERS, Writers, accepted_in_order, arrived, empty, log_of, missing, running
from tests.kafka.waiting import until


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(data=tmp_path / "broker") as started:
        yield started


@pytest.fixture
def cli(broker: EmbeddedBroker, tmp_path: Path) -> CommandLine:
    line = CommandLine(broker.url, tmp_path, partitions="3", gateway_port="0")
    line("topics", "apply").fine()
    return line


async def test_killed_in_an_outage_and_started_without_kafka_everything_accepted_arrives_in_order(
    cli: CommandLine, broker: EmbeddedBroker
) -> None:
    writers = Writers()
    async with running(cli) as (process, ask):
        writing = asyncio.create_task(writers.write(ask))
        await until(lambda: writers.count > 300, 60, "it accepts")
        await asyncio.to_thread(broker.kill)
        before = writers.count
        await until(lambda: writers.count > before + 500, 60, "it accepts without a broker")
        process.kill()
        await asyncio.wait_for(writing, 60)
    async with running(cli) as (process, ask):  # Kafka is away from the start
        assert (await ask("GET", "/health/ready")).status == 200
        assert await ask.waiting() >= 500
        writing = asyncio.create_task(writers.write(ask))
        before = writers.count
        await until(lambda: writers.count > before + 300, 60, "it accepts without a broker")
        process.kill()
        await asyncio.wait_for(writing, 60)
    await asyncio.to_thread(broker.start)
    async with running(cli) as (process, ask):
        writing = asyncio.create_task(writers.write(ask))
        before = writers.count
        await until(lambda: writers.count > before + 100, 60, "it accepts")
        writers.stopped = True
        await asyncio.wait_for(writing, 60)
        await until(lambda: empty(ask), 60, "custody is empty")
    found = await arrived(broker.bootstrap)
    assert writers.count > 1_200
    assert missing(writers, found) == set()
    assert accepted_in_order(writers, found)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_stop_it_answers_what_it_took_and_leaves_the_rest_for_the_next_start(
    cli: CommandLine, broker: EmbeddedBroker, how: signal.Signals
) -> None:
    await asyncio.to_thread(broker.kill)
    writers = Writers()
    async with running(cli) as (process, ask):
        writing = asyncio.create_task(writers.write(ask))
        await until(lambda: writers.count > 200, 60, "it accepts")
        began = asyncio.get_running_loop().time()
        process.send_signal(how)
        out, _ = await asyncio.wait_for(asyncio.to_thread(process.communicate), 60)
        err = log_of(cli).read_text()
        took_s = asyncio.get_running_loop().time() - began
        await asyncio.wait_for(writing, 60)
    assert process.returncode == 0, err
    assert took_s < 30  # 10 s where nothing else wants the processor
    assert "messages in custody" in err
    assert "Traceback" not in err
    assert out == ""
    await asyncio.to_thread(broker.start)
    async with running(cli) as (process, ask):
        await until(lambda: empty(ask), 60, "custody is empty")
    found = await arrived(broker.bootstrap)
    assert missing(writers, found) == set()
    assert accepted_in_order(writers, found)


async def limit_records(broker: EmbeddedBroker, bytes_max: int) -> None:
    async with connect(read_settings(broker=broker.url)) as admin:
        await admin.configure(TOPIC, {"max.message.bytes": str(bytes_max)})


async def test_what_kafka_refused_is_sent_again_through_kills_in_the_middle_of_it(
    cli: CommandLine, broker: EmbeddedBroker
) -> None:
    await limit_records(broker, 20_000)
    events = [comment(number % USERS, "x" * 30_000) for number in range(230)]

    async def kept(ask: Client, count: int) -> bool:
        return await ask.sample("hardparts_gateway_undelivered_messages") == count

    async with running(cli) as (process, ask):
        for at in range(0, len(events), 23):
            assert (await ask.post(*events[at : at + 23])).status == 202
        await until(lambda: kept(ask, 230), 120, "all refused")
        listed = cli("undelivered", "list", "--json", "--gateway", ask.url).fine().rows
        assert {row["error"] for row in listed} == {"message_too_large"}
        assert sorted(json.loads(row["value"])["msg_id"] for row in listed) == sorted(e["msg_id"] for e in events)
        assert len(cli("undelivered", "list", "--gateway", ask.url).fine().out.splitlines()) == 230
        await limit_records(broker, 1_000_000)
        done = await ask("POST", "/undelivered/replay?until_ms=9999999999999")
        assert done.body == {"replayed": 100, "more": True, "until_ms": 9999999999999}
        again = asyncio.create_task(ask("POST", "/undelivered/replay?until_ms=9999999999999"))
        await asyncio.sleep(0)
        process.kill()
        with suppress(aiohttp.ClientError):
            await asyncio.wait_for(again, 60)
    async with running(cli) as (process, ask):
        left = await ask.sample("hardparts_gateway_undelivered_messages")
        assert 30 <= left <= 130
        replayed = cli("undelivered", "replay", "--json", "--gateway", ask.url).fine().rows
        assert replayed == [{"replayed": left}]
        assert cli("undelivered", "replay", "--json", "--gateway", ask.url).fine().rows == [{"replayed": 0}]
        assert cli("undelivered", "list", "--json", "--gateway", ask.url).fine().rows == []
        await until(lambda: empty(ask), 60, "custody is empty")
    found = await arrived(broker.bootstrap)
    sent = {user: [e["msg_id"] for e in events if e["data"]["user_id"] == user] for user in range(USERS)}
    assert {user: set(ids) for user, ids in found.items()} == {user: set(ids) for user, ids in sent.items()}


async def test_a_gateway_that_is_away_or_another_program_is_named(cli: CommandLine) -> None:
    said = cli("undelivered", "list", "--gateway", "http://127.0.0.1:1").failed(1)
    assert "no gateway answers at http://127.0.0.1:1" in said
    assert "--gateway URL" in said
