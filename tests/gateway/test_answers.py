"""What the gateway answers: one shape for every refusal, and 202 only for what is in custody."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from pipeline.core.errors import Misconfigured
from pipeline.gateway.custody import Custody
from pipeline.gateway.pages import EVENTS_MAX
from pipeline.gateway.server import running
from pipeline.gateway.undelivered import UndeliveredLog
from pipeline.producer import Limits, SpillInUse
from tests.gateway.gateways import TOPIC, Client, application, comment, gateway, in_topic, scripted
from tests.kafka.waiting import until

BROKEN = {"msg_id": {}, "type": "comment.created", "data": {"user_id": 1}}


async def test_one_event_or_a_list_is_accepted_and_in_kafka_soon(tmp_path: Path) -> None:
    cluster = scripted()
    events = [comment(number) for number in range(30)]
    async with gateway(tmp_path, cluster) as ask:
        assert (await ask.post(events[0])).body == {"accepted": 1}
        answer = await ask.post(*events[1:])
        assert (answer.status, answer.body) == (202, {"accepted": 29})
        empty = await ask("POST", f"/events/{TOPIC}", [])
        assert (empty.status, empty.body) == (202, {"accepted": 0})
        await until(lambda: len(in_topic(cluster)) == 30, 60, "all in the topic")
        assert await ask.sample('hardparts_gateway_events_total{topic="user-events"}') == 30
        await until(lambda: ask.sample("hardparts_gateway_kafka_seconds_count"), 60, "the latency to Kafka")
    assert sorted(in_topic(cluster)) == sorted(event["msg_id"] for event in events)


async def test_of_a_list_with_a_bad_event_none_is_taken_and_the_bad_ones_are_named(tmp_path: Path) -> None:
    cluster = scripted()
    async with gateway(tmp_path, cluster) as ask:
        answer = await ask.post(comment(), BROKEN, comment(), comment("abc"))
        assert answer.status == 422
        assert answer.body["name"] == "refused"
        assert [row["index"] for row in answer.body["events"]] == [1, 3]
        assert answer.body["events"][0] == {
            "index": 1,
            "kind": "ContractBroken",
            "explain": [
                "In :msg_id, val: {} fails spec: UUID version 4",
                'In :data/:msg, val: {"user_id":1} fails spec: required',
            ],
        }
        assert (await ask.post(BROKEN)).body["events"][0]["index"] == 0
        many = await ask.post(*[BROKEN] * 1_000)
        assert len(many.body["events"]) == 20
        assert (await ask("POST", f"/events/{TOPIC}", b"[{]")).body["events"][0]["kind"] == "MalformedJson"
        assert await ask.waiting() == 0
        assert await ask.sample('hardparts_gateway_requests_total{status="422",topic="user-events"}') == 4
    assert in_topic(cluster) == []


async def test_other_refusals_have_the_same_shape(tmp_path: Path) -> None:
    async with gateway(tmp_path, scripted(), gateway_body_bytes_max=2_000_000) as ask:
        for method, path, body, status in (
            ("POST", "/events/nothing", comment(), 404),
            ("POST", "/events/a/b", comment(), 404),
            ("GET", "/events/user-events", None, 405),
            ("POST", "/events/user-events", b" " * 2_000_001, 413),
            ("POST", "/events/user-events", comment(msg="x" * 1_000_000), 413),
            ("GET", "/undelivered?limit=x", None, 400),
            ("POST", "/undelivered/replay?until_ms=x", None, 400),
            ("DELETE", "/undelivered/nobody", None, 404),
        ):
            answer = await ask(method, path, body)
            assert answer.status == status, (path, answer)
            assert {"error", "name"} <= answer.body.keys()
        unknown = await ask.post(comment(), topic="nothing")
        assert unknown.body["topics"] == ["team-events", "user-events"]
        encoded = await ask(
            "POST", "/events/user-events", gzip.compress(json.dumps(comment()).encode()), **{"Content-Encoding": "gzip"}
        )
        assert encoded.status == 415
        assert await ask.waiting() == 0


async def test_with_a_token_only_who_has_it_gets_in(tmp_path: Path) -> None:
    async with gateway(tmp_path, scripted(), web_token="s3cret") as ask:
        for given in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": "s3cret"}, {"Authorization": "Bearer "}):
            for method, path in (
                ("POST", "/events/user-events"),
                ("POST", "/events/nothing"),
                ("GET", "/undelivered"),
                ("POST", "/undelivered/replay?until_ms=1"),
                ("DELETE", "/undelivered/1"),
            ):
                answer = await ask(method, path, comment() if method == "POST" else None, **given)
                assert answer.status == 401
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert answer.body["name"] == "unauthorized"
        let_in = {"Authorization": "Bearer s3cret", "Origin": "https://example.org"}
        assert (await ask("POST", "/events/user-events", comment(), **let_in)).status == 202
        for page in ("/health/live", "/health/ready", "/metrics", "/openapi.json"):
            assert (await ask("GET", page)).status == 200
        assert (await ask("GET", "/openapi.json")).body["security"] == [{"token": []}]


async def test_without_a_token_no_web_page_gets_in_and_nobody_from_elsewhere(tmp_path: Path) -> None:
    async with gateway(tmp_path, scripted()) as ask:
        assert (await ask("POST", "/events/user-events", comment(), Origin="https://example.org")).status == 403
        assert (await ask("GET", "/undelivered", Host="evil.example")).status == 403  # its name leads here
    app = application(tmp_path, web_host="0.0.0.0")
    with pytest.raises(Misconfigured, match="HARDPARTS_WEB_TOKEN"):
        await running(app).__aenter__()


async def test_a_taken_port_and_a_taken_spill_are_named(tmp_path: Path) -> None:
    async with gateway(tmp_path, scripted()) as ask:
        with pytest.raises(SpillInUse, match="belongs to process"):
            await running(application(tmp_path)).__aenter__()
        port = int(ask.url.rpartition(":")[2])
        other = application(tmp_path / "other", gateway_port=port)
        with pytest.raises(Misconfigured, match=f"port {port} is taken.*--port"):
            await running(other).__aenter__()
        async with gateway(tmp_path / "other", scripted()) as second:  # the spill was released
            assert (await second.post(comment())).status == 202


async def test_the_document_is_valid_openapi_and_has_every_contract_and_answer(tmp_path: Path) -> None:
    async with gateway(tmp_path, scripted()) as ask:
        document = (await ask("GET", "/openapi.json")).body
    OpenAPIV31SpecValidator(document).validate()
    assert set(document["paths"]) == {
        "/events/user-events", "/events/team-events", "/health/live", "/health/ready", "/metrics", "/openapi.json",
    }  # fmt: skip
    post = document["paths"]["/events/user-events"]["post"]
    assert post["responses"].keys() == {"202", "401", "403", "404", "413", "415", "422", "503"}
    schemas = document["components"]["schemas"]
    assert {name for name in schemas if name.startswith("user-events.")} == {
        "user-events.comment.created", "user-events.user.followed", "user-events.user.unfollowed",
        "user-events.message.sent",
    }  # fmt: skip
    id_ = schemas["user-events.comment.created"]["properties"]["data"]["properties"]["user_id"]
    assert id_ == {"$ref": "#/components/schemas/user-events.comment.created/$defs/id"}
    assert document["security"] == []


async def test_the_callers_trace_goes_on_and_what_is_none_does_not(tmp_path: Path) -> None:
    cluster = scripted()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    seen: list[list[tuple[str, bytes]]] = []
    async with gateway(tmp_path, cluster) as ask:
        cluster.go_away()
        for given in (trace, "no trace"):
            assert (await ask("POST", f"/events/{TOPIC}", comment(), traceparent=given)).status == 202
    from pipeline.producer.spill import Spill

    spill = Spill(tmp_path / "data" / "one" / "spill", 0)
    for lane, row in list(spill.scan()):
        _, found = spill.read(lane, row.first, row.end, 1 << 20, 100)
        seen += [message.headers for message in found]
    spill.close()
    assert seen == [[("traceparent", trace.encode())], []]


async def test_pages_of_health_need_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path, scripted()) as ask, Client(ask.url) as other:
        assert (await other("GET", "/health/live")).body == {"live": True}
        ready = (await other("GET", "/health/ready")).body
        assert ready["ready"] is True
        assert ready["custody"]["messages"] == 0


async def test_a_list_that_custody_could_never_hold_is_too_large_and_not_for_later(tmp_path: Path) -> None:
    cluster, event = scripted(), json.dumps(comment()).encode()
    async with gateway(tmp_path, cluster, gateway_body_bytes_max=32 << 20) as ask:
        answer = await ask("POST", f"/events/{TOPIC}", b"[" + b",".join([event] * (EVENTS_MAX + 1)) + b"]")
        assert (answer.status, answer.body["name"]) == (413, "too_large")
        assert f"at most {EVENTS_MAX} events" in answer.body["error"]
    limits = Limits()
    assert limits.memory_messages > 2 * EVENTS_MAX
    assert limits.memory_bytes > (32 << 20) + EVENTS_MAX * 1_000, "32 MiB, with what each counts for besides"


async def test_a_body_that_is_cut_off_is_nobodys_bug(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with gateway(tmp_path, scripted()) as ask:
        host, port = ask.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /events/user-events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        assert (await ask("GET", "/health/live")).status == 200  # by now it reads the body
        writer.close()
        counted = 'hardparts_gateway_requests_total{status="400",topic="user-events"}'
        await until(lambda: ask.sample(counted), 60, "it has noticed")
    assert "Traceback" not in caplog.text


async def test_a_bug_of_ours_is_counted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        raise ZeroDivisionError

    async with gateway(tmp_path, scripted()) as ask:
        monkeypatch.setattr(Custody, "take", fails)
        answer = await ask.post(comment())
        assert (answer.status, answer.body["name"]) == (500, "internal")
        assert await ask.sample('hardparts_gateway_requests_total{status="500",topic="user-events"}') == 1


async def test_what_is_asked_for_writes_no_line_of_its_own_into_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(UndeliveredLog, "discard", fails)
    async with gateway(tmp_path, scripted()) as ask:
        assert (await ask("DELETE", "/undelivered/a%0Aforged")).status == 500
    (said,) = [record.getMessage() for record in caplog.records if record.name == "hardparts.gateway"]
    assert "\n" not in said
    assert "forged" in said
