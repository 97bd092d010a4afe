"""Both clients at a real gateway: taken, refused, full, down and back."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pipeline.client import (
    GatewayClient,
    NotAccepted,
    PlainGatewayClient,
    Refused,
    TooLarge,
    Unauthorized,
    UnknownTopic,
)
from tests.gateway.gateways import TOPIC, Client, comment, gateway, in_topic, scripted
from tests.kafka.waiting import until

WITHIN_S = 60
LONG_S = 60.0

Send = Callable[..., Awaitable[None]]


@asynccontextmanager
async def sender(kind: str, url: str, registry: CollectorRegistry, token: str | None = None) -> AsyncIterator[Send]:
    """`await send(topic, events)` of either client; the plain one in a thread, as it waits."""
    if kind == "async":
        async with GatewayClient(url, token=token, registry=registry, deadline_s=LONG_S) as client:
            yield client.send
        return
    with PlainGatewayClient(url, token=token, registry=registry, deadline_s=LONG_S) as plain:

        async def send(*arguments: Any, **options: Any) -> None:
            await asyncio.to_thread(plain.send, *arguments, **options)

        yield send


@pytest.fixture(params=["async", "plain"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def taken(ask: Client) -> float:
    """How many events the gateway says that it took."""
    return await ask.sample(f'hardparts_gateway_events_total{{topic="{TOPIC}"}}')


async def test_what_was_sent_is_in_the_topic(kind: str, tmp_path: Path) -> None:
    cluster, registry = scripted(), CollectorRegistry()
    one, some = comment(), [comment(number) for number in range(20)]
    async with gateway(tmp_path, cluster) as ask, sender(kind, ask.url, registry) as send:
        await send(TOPIC, one)
        await send(TOPIC, some)
        await until(lambda: len(in_topic(cluster)) == 21, WITHIN_S, "Kafka has them")
        assert await taken(ask) == 21
    assert sorted(in_topic(cluster)) == sorted(event["msg_id"] for event in (one, *some))


async def test_what_a_gateway_refuses_has_a_name_and_is_explained(kind: str, tmp_path: Path) -> None:
    registry = CollectorRegistry()
    async with gateway(tmp_path, scripted(), web_token="right", gateway_body_bytes_max=2_000) as ask:
        async with sender(kind, ask.url, registry, "wrong") as send:
            with pytest.raises(Unauthorized):
                await send(TOPIC, comment())
        async with sender(kind, ask.url, registry, "right") as send:
            await send(TOPIC, comment())
            with pytest.raises(UnknownTopic, match="takes events"):
                await send("nothing", comment())
            with pytest.raises(TooLarge, match="2000 bytes"):
                await send(TOPIC, comment(msg="x" * 2_000))
            with pytest.raises(Refused) as raised:
                await send(TOPIC, [comment(), comment(msg=7), comment() | {"msg_id": "1"}])
    first, second = raised.value.explain
    assert first.startswith("event 1: In :data/:msg, ")
    assert second.startswith("event 2: In :msg_id, ")


async def test_a_gateway_that_is_full_is_asked_again_until_the_deadline(kind: str, tmp_path: Path) -> None:
    cluster, registry = scripted(), CollectorRegistry()
    cluster.go_away()
    async with gateway(tmp_path, cluster, custody_messages_max=5) as ask, sender(kind, ask.url, registry) as send:
        await send(TOPIC, [comment() for _ in range(5)])
        with pytest.raises(NotAccepted) as raised:
            await send(TOPIC, comment(), deadline_s=1.0)
        assert raised.value.cause == "not_now"
        last = asyncio.create_task(send(TOPIC, comment()))
        labels = {"topic": TOPIC, "kind": "not_now"}
        errors = "hardparts_client_errors_total"
        await until(lambda: registry.get_sample_value(errors, labels) == 2, WITHIN_S, "it is refused once")
        cluster.come_back()
        await asyncio.wait_for(last, LONG_S)
        await until(lambda: len(in_topic(cluster)) == 6, WITHIN_S, "Kafka has them")


async def test_while_the_gateway_is_down_only_the_clients_side_shows_it_and_then_it_gets_through(
    kind: str, tmp_path: Path
) -> None:
    cluster, registry = scripted(), CollectorRegistry()

    def seen(name: str, **labels: str) -> float:
        return registry.get_sample_value(f"hardparts_client_{name}", {"topic": TOPIC, **labels}) or 0.0

    before, lost, during = comment(), comment(), comment()
    async with gateway(tmp_path, cluster) as ask:
        port = int(ask.url.rpartition(":")[2])
        async with sender(kind, ask.url, registry) as send:
            await send(TOPIC, before)
        quick_s = seen("seconds_sum", outcome="accepted")
    async with sender(kind, f"http://127.0.0.1:{port}", registry) as send:
        with pytest.raises(NotAccepted, match="connection"):
            await send(TOPIC, lost, deadline_s=0.5)
        failed = seen("errors_total", kind="connection")
        assert failed >= 1
        assert seen("seconds_count", outcome="not_accepted") == 1
        waiting = asyncio.create_task(send(TOPIC, during))
        await until(lambda: seen("errors_total", kind="connection") > failed + 2, WITHIN_S, "it tries again and again")
        async with gateway(tmp_path, cluster, gateway_port=port) as ask:
            await asyncio.wait_for(waiting, LONG_S)
            assert seen("seconds_sum", outcome="accepted") - quick_s > quick_s, "the wait is in the client's time"
            assert await taken(ask) == 1
            assert "hardparts_gateway_requests_total{" not in (await ask("GET", "/metrics")).text.replace(
                f'hardparts_gateway_requests_total{{status="202",topic="{TOPIC}"}} 1.0', ""
            ), "the gateway knows of no failure"
            await until(lambda: len(set(in_topic(cluster))) == 2, WITHIN_S, "Kafka has them")
    assert set(in_topic(cluster)) == {before["msg_id"], during["msg_id"]}


async def test_an_answer_that_is_lost_is_asked_for_again_with_the_same_msg_id(kind: str, tmp_path: Path) -> None:
    """A proxy that takes the first request to the gateway and then cuts the connection, without the answer."""
    cluster, registry, event = scripted(), CollectorRegistry(), comment(msg=str(uuid.uuid4()))
    passed = 0
    async with gateway(tmp_path, cluster) as ask:
        port = int(ask.url.rpartition(":")[2])

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal passed
            passed += 1
            first = passed == 1
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
            up_writer.write(await reader.readuntil(b"}}"))
            answer = await up_reader.readuntil(b"}")
            if not first:
                writer.write(answer)
            up_writer.close()
            writer.close()

        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        async with server, sender(kind, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", registry) as send:
            await send(TOPIC, event)
        await until(lambda: len(in_topic(cluster)) == 2, WITHIN_S, "Kafka has it twice")
    assert passed == 2
    assert in_topic(cluster) == [event["msg_id"]] * 2
