"""Custody: outages don't show at the door, the cap does; what Kafka refuses is kept, and sent again when told."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest

from agents.topics import user_events
from pipeline.core.topic import Topic
from pipeline.ops.undelivered import Gateway, GatewayRefuses
from pipeline.producer import ReliableProducer
from pipeline.runtime.settings import read_settings
from tests.gateway.gateways import PARTITIONS, TOPIC, Client, comment, gateway, in_topic, msg_ids, scripted
from tests.kafka.waiting import until
from tests.producer.scripted import Cluster

POISON = b"poison"


async def in_custody(ask: Client, messages: int) -> None:
    async def there() -> bool:
        return await ask.waiting() == messages

    await until(there, 60, f"{messages} messages in custody")


async def test_in_an_outage_it_accepts_as_before_surges_and_drains_to_nothing_in_order_per_key(tmp_path: Path) -> None:
    cluster = scripted()
    sent: dict[int, list[str]] = {user: [] for user in range(7)}

    async def writer(ask: Client, user: int, count: int) -> float:
        slowest = 0.0
        for _ in range(count):
            event = comment(user)
            began = time.monotonic()
            assert (await ask.post(event)).status == 202
            slowest = max(slowest, time.monotonic() - began)
            sent[user].append(event["msg_id"])
        return slowest

    async with gateway(tmp_path, cluster) as ask:
        await asyncio.gather(*(writer(ask, user, 20) for user in sent))
        await in_custody(ask, 0)
        cluster.go_away()
        slowest = max(await asyncio.gather(*(writer(ask, user, 40) for user in sent)))
        assert slowest < 10  # never the time limit of a broker
        await in_custody(ask, 280)
        assert (await ask("GET", "/health/ready")).status == 200
        assert await ask.sample("hardparts_gateway_accept_seconds_count") == 420
        assert await ask.sample("hardparts_gateway_kafka_seconds_count") == 140
        cluster.come_back()
        await in_custody(ask, 0)
        await until(lambda: len(in_topic(cluster)) == 420, 60, "all in the topic")
        assert await ask.sample("hardparts_gateway_kafka_seconds_count") == 420
        assert await ask.sample('hardparts_gateway_send_errors_total{error="not_available"}') > 0
    for user, ids in sent.items():
        places = [
            [json.loads(value or b"")["msg_id"] for value in log if json.loads(value or b"")["data"]["user_id"] == user]
            for log in cluster.logs.values()
        ]
        assert [found for found in places if found] == [ids]


async def test_only_at_its_cap_it_refuses_with_a_time_to_come_back_and_takes_no_part_of_a_list(tmp_path: Path) -> None:
    cluster = scripted()
    async with gateway(tmp_path, cluster, custody_messages_max=50) as ask:
        cluster.go_away()
        accepted = [event["msg_id"] for event in (comment(number) for number in range(48)) if await took(ask, event)]
        assert len(accepted) == 48
        refused = await ask.post(comment(), comment(), comment())
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.body["name"] == "custody_full"
        assert (await ask("GET", "/health/ready")).status == 200
        last = [comment(), comment()]
        assert (await ask.post(*last)).status == 202
        for page, status in (("/health/ready", 503), ("/health/live", 200)):
            assert (await ask("GET", page)).status == status
        assert (await ask.post(comment())).status == 503
        await in_custody(ask, 50)
        cluster.come_back()
        await in_custody(ask, 0)
        assert (await ask.post(comment())).status == 202
        await until(lambda: len(in_topic(cluster)) == 51, 60, "all in the topic")
    assert {*accepted, *(event["msg_id"] for event in last)} < set(in_topic(cluster))


async def took(ask: Client, event: object) -> bool:
    return (await ask.post(event)).status == 202


async def test_a_cap_in_bytes_holds_too(tmp_path: Path) -> None:
    cluster = scripted()
    async with gateway(tmp_path, cluster, custody_bytes_max=100_000) as ask:
        cluster.go_away()
        taken = 0
        while await took(ask, comment(taken, "x" * 9_000)):
            taken += 1
            assert taken < 50
        assert taken > 5
        ready = (await ask("GET", "/health/ready")).body
        assert ready["custody"]["disk_bytes"] < 100_000


async def test_what_a_stop_leaves_goes_on_at_the_next_start(tmp_path: Path) -> None:
    cluster = scripted()
    events = [comment(number) for number in range(20)]
    async with gateway(tmp_path, cluster) as ask:
        cluster.go_away()
        assert (await ask.post(*events)).status == 202
    assert in_topic(cluster) == []
    cluster.come_back()
    async with gateway(tmp_path, cluster) as ask:
        await in_custody(ask, 0)
    assert sorted(in_topic(cluster)) == sorted(event["msg_id"] for event in events)


async def test_messages_of_a_topic_without_order_have_no_key_and_go_to_every_partition(tmp_path: Path) -> None:
    cluster = scripted()
    async with gateway(tmp_path, cluster, [Topic(TOPIC, key=None)]) as ask:
        assert (await ask.post(*(comment(1) for _ in range(60)))).status == 202
        await until(lambda: len(in_topic(cluster)) == 60, 60, "all in the topic")
    assert [len(cluster.logs[TOPIC, partition]) for partition in range(PARTITIONS)] == [20, 20, 20]


# ---------------------------------------------------------------------- the undelivered log


class Picky(Cluster):
    """Takes no event of user 13, until it is told to."""

    picky = True


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Picky:
    """The scripted cluster refuses values that begin with POISON; here that is: those of user 13."""
    cluster = Picky(dict.fromkeys((TOPIC,), PARTITIONS))
    monkeypatch.setattr("tests.producer.scripted.POISON", b'{"poison"')
    return cluster


def poison(number: int = 0) -> dict[str, object]:
    """An event that its contract takes and the scripted broker doesn't."""
    return {"poison": number, **comment(13)}


async def undelivered(ask: Client, messages: int) -> list[dict[str, object]]:
    async def kept() -> list[dict[str, object]] | None:
        found: list[dict[str, object]] = (await ask("GET", "/undelivered?limit=1000")).body["undelivered"]
        return found if len(found) == messages else None

    found: list[dict[str, object]] = await until(kept, 60, f"{messages} in the log") if messages else []
    return found


async def test_what_the_broker_refuses_is_in_the_log_with_its_reason_and_its_neighbours_arrive(
    tmp_path: Path, poisoned: Picky
) -> None:
    bad = poison()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with gateway(tmp_path, poisoned, [user_events]) as ask:
        assert (await ask.post(comment(13), comment(13))).status == 202
        assert (await ask("POST", f"/events/{TOPIC}", bad, traceparent=trace)).status == 202
        assert (await ask.post(comment(13))).status == 202
        (kept,) = await undelivered(ask, 1)
        assert json.loads(str(kept["value"])) == bad
        assert (kept["key"], kept["topic"], kept["error"]) == ("13", TOPIC, "message_too_large")
        assert kept["headers"] == [["traceparent", trace]]
        assert kept["code"] == 10
        assert 1 <= kept["attempts"] <= 3  # alone, or in a batch of up to four that was halved
        assert isinstance(kept["at_ms"], int)
        await until(lambda: len(in_topic(poisoned)) == 3, 60, "the others")
        assert await ask.sample("hardparts_gateway_undelivered_messages") == 1
        await in_custody(ask, 0)


async def test_an_outage_alone_puts_nothing_there(tmp_path: Path, poisoned: Picky) -> None:
    async with gateway(tmp_path, poisoned, [user_events]) as ask:
        poisoned.go_away()
        assert (await ask.post(poison())).status == 202
        await until(lambda: ask.sample('hardparts_gateway_send_errors_total{error="not_available"}'), 60, "tries")
        assert (await ask("GET", "/undelivered")).body == {"undelivered": []}
        poisoned.come_back()
        await undelivered(ask, 1)


async def test_a_replay_brings_all_of_it_in_order_and_a_second_one_nothing(
    tmp_path: Path, poisoned: Picky, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [poison(number) for number in range(250)]
    async with gateway(tmp_path, poisoned, [user_events]) as ask:
        assert (await ask.post(*bad)).status == 202
        kept = await undelivered(ask, 250)
        assert [json.loads(str(one["value"]))["poison"] for one in kept] == list(range(250))
        at_gateway = Gateway(read_settings(), ask.url)
        again = await at_gateway.replay(lambda _: None)  # the cause isn't mended
        assert again == 250
        await undelivered(ask, 250)
        monkeypatch.setattr("tests.producer.scripted.POISON", b"nothing")
        assert [await at_gateway.replay(lambda _: None) for _ in range(2)] == [250, 0]
        await until(lambda: len(in_topic(poisoned)) == 250, 60, "all in the topic")
        assert await ask.sample("hardparts_gateway_undelivered_messages") == 0
        assert [one async for one in at_gateway.undelivered()] == []
    (log,) = [log for log in poisoned.logs.values() if log]
    assert msg_ids(log) == [event["msg_id"] for event in bad]


@pytest.mark.parametrize("ahead_s", [-3600, 3600])
async def test_a_replay_asks_the_gateways_clock_and_not_that_of_who_calls(
    tmp_path: Path, poisoned: Picky, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    async with gateway(tmp_path, poisoned, [user_events]) as ask:
        assert (await ask.post(*(poison(number) for number in range(150)))).status == 202
        await undelivered(ask, 150)
        now, asked = time.time, []

        def caller() -> float:
            frame = sys._getframe(1).f_globals["__name__"]
            return now() + (ahead_s if frame == "pipeline.ops.undelivered" else 0)

        def once_each(done: int) -> None:
            asked.append(done)
            assert len(asked) < 10, "what is refused again is sent again and again"

        monkeypatch.setattr(time, "time", caller)
        assert await Gateway(read_settings(), ask.url).replay(once_each) == 150  # and refused again


async def test_a_replay_takes_what_was_refused_before_the_clock_went_back(
    tmp_path: Path, poisoned: Picky, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time

    def ahead() -> float:
        return now() + (3600 if sys._getframe(1).f_globals["__name__"] == "pipeline.producer.refusing" else 0)

    async with gateway(tmp_path, poisoned, [user_events]) as ask:
        with monkeypatch.context() as clock:
            clock.setattr(time, "time", ahead)
            assert (await ask.post(*(poison(number) for number in range(150)))).status == 202
            await undelivered(ask, 150)
        asked = []

        def once_each(done: int) -> None:
            asked.append(done)
            assert len(asked) < 10, "what is refused again is sent again and again"

        assert await Gateway(read_settings(), ask.url).replay(once_each) == 150  # and refused again
        await undelivered(ask, 150)
        monkeypatch.setattr("tests.producer.scripted.POISON", b"nothing")
        assert await Gateway(read_settings(), ask.url).replay(once_each) == 150
        await until(lambda: len(in_topic(poisoned)) == 150, 60, "all in the topic")


async def test_a_replay_that_ends_in_its_middle_skips_nothing(
    tmp_path: Path, poisoned: Picky, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [poison(number) for number in range(150)]
    async with gateway(tmp_path, poisoned, [user_events]) as ask:
        assert (await ask.post(*bad)).status == 202
        await undelivered(ask, 150)
        monkeypatch.setattr("tests.producer.scripted.POISON", b"nothing")
        discard, left = ReliableProducer.discard, iter(range(70))

        def dies(producer: ReliableProducer, id_: str) -> None:
            if next(left, None) is None:
                raise OSError("as if it were killed here")
            discard(producer, id_)

        monkeypatch.setattr(ReliableProducer, "discard", dies)
        with pytest.raises(GatewayRefuses, match="a fault of the gateway's own: OSError"):
            await Gateway(read_settings(), ask.url).replay(lambda _: None)
        monkeypatch.setattr(ReliableProducer, "discard", discard)
        await undelivered(ask, 80)
        assert await Gateway(read_settings(), ask.url).replay(lambda _: None) == 80
        await until(lambda: len(set(in_topic(poisoned))) == 150, 60, "all in the topic")
        await in_custody(ask, 0)
    assert len(in_topic(poisoned)) == 150 + 30  # sent, and then not taken out of the log


async def test_one_can_be_discarded_and_the_alert_closes_with_the_last(
    tmp_path: Path, poisoned: Picky, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "hardparts.alerts")
    async with (
        gateway(tmp_path, poisoned, [user_events], web_token="s3cret") as ask,
        Client(ask.url, Authorization="Bearer s3cret") as ask,
    ):
        assert (await ask.post(poison(), poison())).status == 202
        first, second = await undelivered(ask, 2)
        assert caplog.text.count("ALERT opened undelivered") == 1
        at_gateway = Gateway(read_settings(web_token="s3cret"), ask.url)
        await at_gateway.discard(str(first["id"]))
        with pytest.raises(GatewayRefuses, match="no undelivered message"):
            await at_gateway.discard(str(first["id"]))
        assert "ALERT closed" not in caplog.text
        await at_gateway.discard(str(second["id"]))
        assert caplog.text.count("ALERT closed undelivered") == 1
        with pytest.raises(GatewayRefuses, match="the same HARDPARTS_WEB_TOKEN"):
            await Gateway(read_settings(), ask.url).discard("1")


async def test_a_request_that_waits_for_a_disk_that_fails_is_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from pipeline.producer.spill import Spill, SpillUnusable

    cluster = scripted()
    works = [True]
    write, check = Spill._write, Spill.check

    def fails(error: type[BaseException] = SpillUnusable) -> None:
        raise SpillUnusable(tmp_path, "can't be written: Input/output error", 5)

    monkeypatch.setattr(Spill, "_write", lambda spill, batch: write(spill, batch) if works[0] else fails())
    monkeypatch.setattr(Spill, "check", lambda spill: check(spill) if works[0] else fails())
    async with gateway(tmp_path, cluster) as ask:
        cluster.go_away()
        first = comment()
        assert (await ask.post(first)).status == 202
        works[0] = False
        second = comment()
        refused = await ask.post(second)
        assert (refused.status, refused.body["name"]) == (503, "spill_unusable")
        assert "Input/output error (errno 5)" in refused.body["error"]
        assert refused.headers["Retry-After"]
        ready = await ask("GET", "/health/ready")
        assert ready.status == 503
        assert (ready.body["path"], ready.body["errno"]) == (str(tmp_path), 5)
        assert "ALERT opened custody" in caplog.text
        works[0] = True

        async def is_ready() -> bool:
            return (await ask("GET", "/health/ready")).status == 200

        await until(is_ready, 60, "the disk works again")
        assert (await ask.post(comment())).status == 202
        cluster.come_back()
        await in_custody(ask, 0)
        await until(lambda: first["msg_id"] in in_topic(cluster), 60, "what was accepted")


def test_custody_holds_a_million_messages_or_a_gibibyte_unless_told_otherwise() -> None:
    settings = read_settings()
    assert settings.custody_messages_max >= 1_000_000
    assert settings.custody_bytes_max >= 1 << 30
