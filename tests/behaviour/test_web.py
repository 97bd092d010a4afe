"""The pages of a worker, asked over HTTP while it works, waits, hands over and ends."""

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.broker import EmbeddedBroker
from pipeline.core.routing import partition_of
from pipeline.runtime.erase import may_not_erase
from pipeline.runtime.load import load_app
from pipeline.runtime.settings import read_settings
from pipeline.runtime.web import may_not_read_state
from tests.behaviour.commandline import CommandLine

APPLICATION = """
import time
from pathlib import Path
from pipeline.core.errors import Blocking
from pipeline.core.event import Event
from pipeline.core.state import State
from pipeline.core.topic import Catalogue, Topic
from pipeline.core.views import Counter, Relation
from pipeline.runtime.agent import Agent
from pipeline.runtime.app import App

here = Path(__file__).parent
letters = Topic("letters", key="to")
seen, pairs = Counter("seen"), Relation("pairs")
app = App(catalogue=Catalogue.of([letters]), modules=[], contracts=here / "contracts")
postman = Agent(app, "postman", sources=[letters], state=[seen, pairs])

class Letter(Event):
    to: str
    text: str

@postman.on("letter.sent")
def letter_sent(event: Letter, state: State):
    if event.text == "wait" and not (here / "go-on").exists():
        raise Blocking("the door is shut", "door")
    if event.text == "hang":
        app.consumer.group.thread_loop.call_soon_threadsafe(time.sleep, 60)
    seen.of(state).set(seen.of(state).get() + 1)
    pairs.of(state).add("a/b")
    return []
"""
CONTRACT = {
    "type": "object",
    "required": ["msg_id", "type", "data"],
    "properties": {
        "msg_id": {"type": "string", "pattern": "^[0-9a-f-]{36}$", "maxLength": 36},
        "type": {"const": "letter.sent"},
        "data": {
            "type": "object",
            "required": ["to", "text"],
            "properties": {"to": {"type": "string", "maxLength": 64}, "text": {"type": "string", "maxLength": 64}},
        },
        "meta": {"type": "object"},
    },
}


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def cli(broker: EmbeddedBroker, tmp_path: Path) -> CommandLine:
    (tmp_path / "post_office.py").write_text(APPLICATION)
    contracts = tmp_path / "contracts" / "letters"
    contracts.mkdir(parents=True)
    (contracts / "letter.sent.json").write_text(json.dumps(CONTRACT))
    cli = CommandLine(broker.url, tmp_path, app="post_office:app", app_id="post")
    cli.directory = tmp_path
    cli("topics", "apply").fine()
    return cli


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, Any]:
    """Status and body; the body of JSON decoded."""
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            status, kind, body = answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        status, kind, body = error.code, error.headers["Content-Type"], error.read()
    return status, json.loads(body) if "json" in (kind or "") and body else body.decode()


def send(cli: CommandLine, to: str, text: str, number: int) -> None:
    msg_id = f"00000000-0000-4000-8000-{number:012d}"
    value = {"msg_id": msg_id, "type": "letter.sent", "data": {"to": to, "text": text}}
    cli("send", "letters", stdin=json.dumps({"key": to, "value": value})).fine()


def until(url: str, holds: Any) -> Any:
    """The first answer for which `holds`; the test's time limit ends it otherwise."""
    while not holds(answer := get(url)):
        pass
    return answer


def sample(text: str, name: str) -> dict[str, float]:
    """labels → value of a metric."""
    lines = [line for line in text.splitlines() if line.startswith((name + "{", name + " "))]
    return {line.rpartition(" ")[0].removeprefix(name): float(line.rpartition(" ")[2]) for line in lines}


def test_a_worker_shows_its_state_its_metrics_and_what_it_does_not_have(cli: CommandLine) -> None:
    with cli.worker() as url:
        assert get(f"{url}/health/live") == (200, {"live": True})
        ready = {"ready": True, "partitions": [0, 1], "blocked": [], "topics": []}
        assert get(f"{url}/health/ready") == (200, ready)
        send(cli, "Ann", "hello", 1)
        _, row = until(f"{url}/state/seen/Ann", lambda answer: answer[0] == 200)
        assert row == {"key": "ann", "value": 1, "partition": partition_of(b"Ann", 2)}
        assert get(f"{url}/state/seen/nobody")[0] == 404
        assert get(f"{url}/state/pairs/Ann/a%2Fb") == (
            200,
            {"key": "ann/a/b", "value": True, "partition": row["partition"]},
        )
        status, problem = get(f"{url}/state/nothing/Ann")
        assert status == 404
        assert "pairs, seen" in problem["error"]
        status, text = get(f"{url}/metrics")
        assert status == 200
        assert sample(text, "hardparts_records_total") == {'{agent="postman",outcome="applied"}': 1}
        lags = sample(text, "hardparts_lag_records")
        assert len(lags) == 2
        assert set(lags.values()) == {0}
        assert sample(text, "hardparts_in_flight") == {"": 0}
        for page in ("table/", "router/", "stats", "graph"):
            assert get(f"{url}/{page}")[0] == 404


def test_a_blocked_worker_is_alive_and_ready_and_shows_what_it_waits_for(cli: CommandLine, tmp_path: Path) -> None:
    with cli.worker() as url:
        send(cli, "bob", "wait", 1)
        send(cli, "bob", "after", 2)
        _, ready = until(f"{url}/health/ready", lambda answer: answer[1].get("blocked"))
        (blocked,) = ready["blocked"]
        partition = partition_of(b"bob", 2)
        assert (blocked["agent"], blocked["partition"], blocked["reason"]) == ("postman", partition, "door")
        assert get(f"{url}/health/live")[0] == 200
        labels = f'{{agent="postman",partition="{partition}",reason="door",topic="letters"}}'
        _, first = get(f"{url}/metrics")
        _, second = get(f"{url}/metrics")
        waited = [sample(text, "hardparts_blocked_seconds")[labels] for text in (first, second)]
        assert 0 < waited[0] < waited[1]  # brought up to date at every reading
        assert sum(sample(second, "hardparts_lag_records").values()) == 2
        aged = [sample(text, "hardparts_lag_seconds") for text in (first, second)]
        place = f'{{agent="postman",partition="{partition}",topic="letters"}}'
        assert 0 < aged[0][place] < aged[1][place]
        assert sorted(aged[1].values()) == [0, aged[1][place]]
        (tmp_path / "go-on").write_text("")
        until(f"{url}/state/seen/bob", lambda answer: answer[1].get("value") == 2)
        _, text = get(f"{url}/metrics")
        assert sample(text, "hardparts_blocked_seconds") == {}


def test_a_worker_without_a_partition_names_it_and_one_that_lost_its_broker_stays_alive(
    cli: CommandLine, broker: EmbeddedBroker
) -> None:
    with cli.worker() as first, cli.worker(instance="two") as second:
        for url in (first, second):
            until(f"{url}/health/ready", lambda answer: len(answer[1].get("partitions", [])) == 1)
        statuses = sorted(get(f"{url}/state/seen/ann")[0] for url in (first, second))
        assert statuses == [404, 421]
        (elsewhere,) = [
            body for url in (first, second) for status, body in [get(f"{url}/state/seen/ann")] if status == 421
        ]
        assert elsewhere["partition"] == partition_of(b"ann", 2)
        assert len(sample(get(f"{first}/metrics")[1], "hardparts_lag_records")) == 1
        assert broker.pid
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            assert get(f"{first}/health/live")[0] == 200
            status, text = get(f"{first}/metrics")
            assert status == 200
            assert len(sample(text, "hardparts_lag_records")) == 1
        finally:
            os.kill(broker.pid, signal.SIGCONT)


def test_a_worker_whose_consumer_hangs_is_not_alive(cli: CommandLine) -> None:
    with cli.worker() as url:
        assert get(f"{url}/health/live")[0] == 200
        send(cli, "bob", "hang", 1)
        _, body = until(f"{url}/health/live", lambda answer: answer[0] == 503)
        assert "hasn't answered for 5 s" in body["reason"]


def test_a_worker_that_waits_for_its_partitions_is_alive_but_not_ready(cli: CommandLine) -> None:
    with cli.worker() as url:
        until(f"{url}/health/ready", lambda answer: answer[0] == 200)
        with cli.running("worker", instance="two"):  # its joining takes partitions away
            _, body = until(f"{url}/health/ready", lambda answer: answer[0] == 503)
            assert body["ready"] is False
            assert get(f"{url}/health/live")[0] == 200


def test_a_taken_port_is_named_with_the_remedy(cli: CommandLine) -> None:
    with cli.worker() as url:
        port = url.rpartition(":")[2]
        said = cli("worker", "--instance", "two", "--web-port", port).failed(2)
    assert f"web port {port} is taken" in said
    assert "--web-port" in said


def test_a_missing_topic_keeps_a_worker_from_starting(cli: CommandLine) -> None:
    said = cli("worker", app_id="new").failed(2)
    assert "new.errors" in said
    assert "hardparts topics apply" in said


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_waits_for_a_broker_and_can_be_stopped_meanwhile(cli: CommandLine, how: signal.Signals) -> None:
    with cli.running("worker", broker="kafka://127.0.0.1:1") as process:
        assert process.stderr
        assert "waiting: no broker answers at 127.0.0.1:1" in process.stderr.readline()
        process.send_signal(how)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert errors == ""


def test_nothing_is_changed_without_the_token(cli: CommandLine) -> None:
    pages = (
        "",
        "health/live",
        "health/ready",
        "metrics",
        "state/seen/ann",
        "table/",
        "router/",
        "stats",
        "send",
        "erase",
    )
    methods = ("POST", "PUT", "PATCH", "DELETE", "SEARCH", "CONNECT", "TRACE")
    with cli.worker() as url:
        for page in pages:
            for method in methods:
                refused = (403,) if (method, page) == ("POST", "erase") else (404, 405)
                assert get(f"{url}/{page}", method)[0] in refused, (method, page)


async def test_the_router_has_one_route_that_changes_something() -> None:
    """Whoever adds another one meets this test: it needs the token, and a test of its own like `/erase`."""
    app = load_app(read_settings(app="agents.app:app", broker="kafka://127.0.0.1:1"))
    app.finalize()
    app.web.init_server()
    app.on_webserver_init(app.web)
    routes = {(route.method, route.resource.canonical) for route in cast(Any, app.web).web_app.router.routes()}
    assert ("GET", "/metrics") in routes
    assert {route for route in routes if route[0] not in ("GET", "HEAD")} == {("POST", "/erase")}
    for token, authorization in (("", "Bearer "), ("s3cret", ""), ("s3cret", "Bearer s3cre"), ("s3cret", "s3cret")):
        assert may_not_erase(read_settings(web_token=token), authorization) is not None


def test_with_a_token_state_is_shown_to_who_has_it(cli: CommandLine) -> None:
    with cli.worker(web_token="s3cret\u00e9") as url:
        send(cli, "ann", "hello", 1)
        until(f"{url}/metrics", lambda answer: sample(answer[1], "hardparts_records_total"))
        refused = [
            {},
            {"Authorization": "Bearer s3cret"},
            {"Authorization": "Basic s3cret\u00e9"},
            {"Authorization": ""},
        ]
        for headers in refused:
            encoded = {name: value.encode().decode("latin-1") for name, value in headers.items()}
            status, body = get(f"{url}/state/seen/ann", **encoded)
            assert status == 401
            assert "s3cret" not in str(body)
        token = "Bearer s3cret\u00e9".encode().decode("latin-1")
        assert get(f"{url}/state/seen/ann", Authorization=token)[1]["value"] == 1
        assert get(f"{url}/state/seen/ann", "HEAD")[0] == 401
        for page in ("health/live", "health/ready", "metrics"):
            assert get(f"{url}/{page}")[0] == 200
        row = cli("tables", "get", "seen", "ann", "--worker", url, web_token="s3cret\u00e9").fine().rows
        assert row == [{"key": "ann", "value": 1}]
        assert "HARDPARTS_WEB_TOKEN" in cli("tables", "get", "seen", "ann", "--worker", url).failed(1)


def test_beyond_this_machine_state_is_shown_with_a_token_only(cli: CommandLine) -> None:
    with cli.worker(web_host="0.0.0.0") as url:
        status, body = get(f"{url}/state/seen/ann")
        assert (status, "HARDPARTS_WEB_TOKEN" in body["error"]) == (403, True)
        assert get(f"{url}/health/ready")[0] == 200


@pytest.mark.parametrize(
    ("host", "token", "authorization", "status"),
    [
        ("0.0.0.0", None, "", 403),
        ("10.1.2.3", "", "Bearer ", 403),
        ("::", "s3cret", "", 401),
        ("0.0.0.0", "s3cret", "Bearer s3cret", None),
        ("127.0.0.1", "s3cret", "Bearer s3cre", 401),
        ("127.0.0.1", "s3cret", "Bearer \udcff", 401),
        ("::1", None, "", None),
        ("localhost", "", "", None),
    ],
)
def test_who_may_read_state(host: str, token: str | None, authorization: str, status: int | None) -> None:
    refused = may_not_read_state(read_settings(web_host=host, web_token=token), authorization, "localhost")
    assert (refused.status if refused is not None else None) == status


def test_without_a_token_a_website_that_claims_to_be_here_reads_no_state() -> None:
    for asked, status in (("evil.example", 403), ("127.0.0.1", None), ("::1", None)):
        refused = may_not_read_state(read_settings(), "", asked)
        assert (refused.status if refused is not None else None) == status
    assert may_not_read_state(read_settings(web_token="s3cret"), "Bearer s3cret", "state.example") is None
