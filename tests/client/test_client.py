"""Both clients, on scripted answers: what is tried again, what is told, what is timed and counted."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from pipeline.client import (
    Forbidden,
    GatewayClient,
    GatewayError,
    NotAccepted,
    PlainGatewayClient,
    Refused,
    TooLarge,
    Unauthorized,
    Unexpected,
    UnknownTopic,
)
from pipeline.client import call as call_
from pipeline.core.backoff import Backoff
from tests.behaviour.commandline import ROOT

EVENT = {
    "msg_id": "8700635f-1802-417e-89e7-595ad3600104",
    "type": "comment.created",
    "data": {"user_id": 1, "msg": "ü"},
}
URL = "http://127.0.0.1:1"
Answer = httpx.Response | Exception | Callable[[], httpx.Response]
Send = Callable[..., None]


class Gateway:
    """Answers in turn; the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [httpx.Response(202)]
        self.asked: list[httpx.Request] = []
        self.registry = CollectorRegistry()

    def says(self, *answers: Answer) -> None:
        self.answers = list(answers)

    def answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return httpx.Response(found.status_code, headers=found.headers, content=found.content)

    def counted(self, kind: str, topic: str = "user-events") -> float:
        return self.registry.get_sample_value("hardparts_client_errors_total", {"topic": topic, "kind": kind}) or 0.0

    def timed(self, outcome: str, topic: str = "user-events") -> tuple[float, float]:
        labels = {"topic": topic, "outcome": outcome}
        values = (self.registry.get_sample_value(f"hardparts_client_seconds_{of}", labels) for of in ("count", "sum"))
        count, seconds = values
        return count or 0.0, seconds or 0.0


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture(params=["async", "plain"])
def send(request: pytest.FixtureRequest, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Send:
    """`send(topic, events, deadline_s=…)` of either client."""
    monkeypatch.setattr(call_, "BETWEEN", Backoff(0.001, 0.002))
    transport = httpx.MockTransport(gateway.answer)

    def plainly(*arguments: Any, **options: Any) -> None:
        http = httpx.Client(transport=transport, base_url=URL)
        with PlainGatewayClient(URL, registry=gateway.registry, http=http) as client:
            client.send(*arguments, **options)

    def by_asyncio(*arguments: Any, **options: Any) -> None:
        async def run() -> None:
            http = httpx.AsyncClient(transport=transport, base_url=URL)
            async with GatewayClient(URL, registry=gateway.registry, http=http) as client:
                await client.send(*arguments, **options)

        asyncio.run(run())

    return plainly if request.param == "plain" else by_asyncio


def problem(status: int, **fields: Any) -> httpx.Response:
    return httpx.Response(status, json=fields)


def test_an_event_is_sent_once_and_timed(gateway: Gateway, send: Send) -> None:
    send("user-events", EVENT)
    (request,) = gateway.asked
    assert (request.method, request.url.path) == ("POST", "/events/user-events")
    assert json.loads(request.content) == EVENT
    assert "ü".encode() in request.content
    send("user-events", [EVENT, EVENT])
    assert json.loads(gateway.asked[1].content) == [EVENT, EVENT]
    assert gateway.timed("accepted")[0] == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(503, headers={"Retry-After": "0"}), "not_now"),
        (httpx.Response(429), "not_now"),
        (httpx.Response(502), "fault"),
        (httpx.Response(500, json={"error": "x", "name": "internal"}), "fault"),
        (httpx.ConnectError("refused"), "connection"),
        (httpx.ReadError("cut off"), "connection"),
        (httpx.ReadTimeout("slow"), "timeout"),
    ],
)
def test_what_is_no_answer_or_not_now_is_tried_again_with_the_same_bytes(
    gateway: Gateway, send: Send, answer: Answer, kind: str
) -> None:
    gateway.says(answer, answer, answer, httpx.Response(202))
    send("user-events", EVENT)
    assert len({request.content for request in gateway.asked}) == 1
    assert len(gateway.asked) == 4
    assert (gateway.counted(kind), gateway.timed("accepted")[0]) == (3, 1)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, Unauthorized), (403, Forbidden), (404, UnknownTopic), (413, TooLarge), (422, Refused),
        (400, Unexpected), (302, Unexpected), (200, Unexpected),
    ],
)  # fmt: skip
def test_what_trying_again_would_not_change_is_told_at_once(
    gateway: Gateway, send: Send, status: int, error: type[GatewayError]
) -> None:
    gateway.says(problem(status, error="because"))
    with pytest.raises(error, match="user-events: because") as raised:
        send("user-events", EVENT)
    assert type(raised.value) is error
    assert len(gateway.asked) == 1
    assert gateway.counted(error.name) == 1
    assert gateway.timed(error.name)[0] == 1
    assert gateway.timed("accepted")[0] == 0


def test_a_refusal_explains_each_event(gateway: Gateway, send: Send) -> None:
    rows = [{"index": 1, "kind": "ContractBroken", "explain": ["In :data, fails", "and more"]}]
    gateway.says(problem(422, error="event 1: In :data, fails", name="refused", events=rows))
    with pytest.raises(Refused) as raised:
        send("user-events", [EVENT, {}])
    assert raised.value.explain == ("event 1: In :data, fails", "event 1: and more")


@pytest.mark.parametrize("content", [b"", b"[", b"[]", b'{"events": 7}', b'{"events": [1, {"explain": 2}]}', b"\xff"])
def test_an_answer_that_says_nothing_is_still_told(gateway: Gateway, send: Send, content: bytes) -> None:
    gateway.says(httpx.Response(422, content=content))
    with pytest.raises(Refused, match="the answer is 422"):
        send("user-events", EVENT)


def test_it_gives_up_at_the_deadline_and_says_why(gateway: Gateway, send: Send) -> None:
    gateway.says(httpx.ConnectError("nobody is there"))
    with pytest.raises(NotAccepted, match="nobody is there") as raised:
        send("user-events", EVENT, deadline_s=0.1)
    assert raised.value.cause == "connection"
    assert gateway.counted("connection") == len(gateway.asked) > 1
    count, seconds = gateway.timed("not_accepted")
    assert count == 1
    assert seconds < 30


def test_it_waits_as_long_as_it_is_told_or_gives_up_at_once(gateway: Gateway, send: Send) -> None:
    gateway.says(httpx.Response(503, headers={"Retry-After": "1"}), httpx.Response(202))
    send("user-events", EVENT, deadline_s=60)
    assert gateway.timed("accepted")[1] >= 1.0
    gateway.says(httpx.Response(503, headers={"Retry-After": "50"}, json={"error": "full", "name": "buffer_full"}))
    with pytest.raises(NotAccepted, match="full"):
        send("user-events", EVENT, deadline_s=40)
    assert gateway.timed("not_accepted")[1] < 20, "waiting until the deadline would help nobody"


@pytest.mark.parametrize("said", ["-1", "x", "Fri, 31 Dec 1999 23:59:59 GMT", "\u0661", "1e9"])
def test_a_retry_after_that_is_no_number_of_seconds_is_passed_over(gateway: Gateway, send: Send, said: str) -> None:
    gateway.says(httpx.Response(503, headers=[(b"Retry-After", said.encode())]), httpx.Response(202))
    send("user-events", EVENT, deadline_s=30)
    assert len(gateway.asked) == 2


@pytest.mark.parametrize("events", [[], {}, {"a": float("nan")}, {"a": object()}, {"a": "\ud800"}])
def test_what_is_no_json_is_the_callers_mistake(gateway: Gateway, send: Send, events: Sequence[Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        send("user-events", events)
    assert gateway.asked == []


def test_a_topic_is_one_part_of_the_path(gateway: Gateway, send: Send) -> None:
    send("../health?x=1", EVENT)
    assert gateway.asked[0].url.raw_path == b"/events/..%2Fhealth%3Fx%3D1"


@pytest.mark.parametrize("url", ["", "gateway:6070", "ftp://gateway", "http://"])
def test_an_address_without_a_scheme_is_refused_at_once(url: str) -> None:
    for client in (GatewayClient, PlainGatewayClient):
        with pytest.raises(ValueError, match="no address of a gateway"):
            client(url, registry=CollectorRegistry())


def test_clients_share_the_metrics_of_a_registry() -> None:
    registry = CollectorRegistry()
    clients = [PlainGatewayClient(URL, registry=registry, token="t") for _ in range(2)]
    assert clients[0]._metrics is clients[1]._metrics
    assert clients[0]._http.headers["Authorization"] == "Bearer t"
    for client in clients:
        client.close()


def test_an_application_that_uses_it_needs_no_kafka_client() -> None:
    program = "import pipeline.client, sys; print({'aiokafka', 'faust', 'sqlalchemy', 'rocksdict'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_an_answer_that_never_ends_is_none(kind: str) -> None:
    """One that comes in drops keeps every single read short."""
    registry, enough = CollectorRegistry(), threading.Event()

    def drip(caller: socket.socket) -> None:
        with caller, suppress(OSError):
            caller.recv(65536)
            caller.sendall(b"HTTP/1.1 503 Not Now\r\nContent-Length: 1000000\r\n\r\n")
            while not enough.wait(0.05):
                caller.sendall(b"x")

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(server.accept()[0],), daemon=True).start()

    def plainly(url: str) -> None:
        with PlainGatewayClient(url, registry=registry, deadline_s=0.5) as client:
            client.send("user-events", EVENT)

    async def by_asyncio(url: str) -> None:
        async with GatewayClient(url, registry=registry, deadline_s=0.5) as client:
            await client.send("user-events", EVENT)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        give_up = threading.Timer(30, enough.set)  # then the connection ends, and that is another error
        give_up.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(NotAccepted) as raised:
            plainly(url) if kind == "plain" else asyncio.run(by_asyncio(url))
        give_up.cancel()
        assert not enough.is_set()
        enough.set()
    assert raised.value.cause == "timeout"
