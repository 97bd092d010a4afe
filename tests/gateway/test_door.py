"""The door judges as a worker does: what it lets in a worker applies, and what it refuses a worker would reject."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.topics import notifications, user_events
from pipeline.contracts import load_contracts
from pipeline.core.agent import Definition
from pipeline.core.decode import decode
from pipeline.core.outcome import Candidate, Rejected
from pipeline.core.record import StoredRecord
from pipeline.core.topic import Topic
from pipeline.gateway.door import RECORD_BYTES_MAX, Door, Malformed, Taken, Turned, doors, split
from pipeline.runtime.load import load_app
from pipeline.runtime.settings import read_settings
from tests.gateway.gateways import CONTRACTS, comment

CONTRACT = load_contracts(CONTRACTS)["user-events"]
DOOR = Door(user_events, CONTRACT)
UPPER = "ABCDEF01-1802-417E-89E7-595AD3600104"


def worker_says(topic: Topic, key: bytes | None, value: bytes) -> Candidate | Rejected:
    agent = Definition("agent", (topic,))
    for type_ in CONTRACT.types:
        agent.on(type_)(lambda event: [])
    (decided,) = decode([StoredRecord(topic.name, 0, 5, 77, key, value)], topic, CONTRACT, agent)
    assert isinstance(decided, Candidate | Rejected)
    return decided


def raw(event: object) -> bytes:
    return json.dumps(event).encode()


users = st.one_of(st.integers(-(2**63), 2**63 - 1), st.uuids().map(str), st.uuids().map(lambda id_: str(id_).upper()))
broken = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=40)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(users, st.text(max_size=20))
def test_what_it_lets_in_a_worker_takes_under_that_very_key(user: object, msg: str) -> None:
    value = raw(comment(user, msg))
    taken = DOOR.judge(value)
    assert isinstance(taken, Taken)
    assert taken == (str(user).lower().encode(), value)
    assert isinstance(worker_says(user_events, taken.key, taken.value), Candidate)


@given(
    st.fixed_dictionaries({"msg_id": broken | st.uuids().map(str), "type": st.just("comment.created"), "data": broken})
)
def test_what_it_refuses_a_worker_rejects_with_the_same_lines(event: dict[str, Any]) -> None:
    value = raw(event)
    turned, decided = DOOR.judge(value), worker_says(user_events, b"1", value)
    if isinstance(turned, Taken):
        return
    assert isinstance(decided, Rejected)
    assert (turned.kind, turned.explain) == (decided.rejection.error_class, decided.rejection.explain or turned.explain)


@given(st.binary(max_size=60))
def test_no_bytes_raise(body: bytes) -> None:
    try:
        events = split(body)
    except Malformed:
        return
    assert all(isinstance(DOOR.judge(event), Turned) for event in events)


@given(st.lists(broken, max_size=5))
def test_a_list_is_its_events_whatever_stands_in_them(events: list[Any]) -> None:
    try:
        found = split(raw(events))
    except Malformed:
        return
    assert [json.loads(event) for event in found] == events


def test_the_same_id_in_upper_and_lower_case_has_one_key() -> None:
    keys = {DOOR.judge(raw(comment(user)))[0] for user in (UPPER, UPPER.lower())}
    assert keys == {UPPER.lower().encode()}


def test_a_single_event_goes_on_byte_for_byte() -> None:
    body = b' {"meta": {"n": 1.50},\n "unknown": [1E2], ' + raw(comment())[1:] + b"\r\n"
    (event,) = split(body)
    taken = DOOR.judge(event)
    assert isinstance(taken, Taken)
    assert taken.value == body.strip()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "MalformedJson"),
        (b"7", "NotAnObject"),
        (b'{"a": 1, "a": 2}', "MalformedJson"),
        (raw(comment(1.0)), "ContractBroken"),
        (raw(comment(True)), "ContractBroken"),
        (raw(comment(2**63)), "MalformedJson"),
        (raw(comment("abc")), "ContractBroken"),
        (raw({**comment(), "type": "comment.deleted"}), "UnknownType"),
        (raw({**comment(), "msg_id": str(uuid.uuid1())}), "ContractBroken"),
        (raw(comment()).replace(b"hello", b"hell\xff"), "MalformedJson"),
    ],
)
def test_refusals_are_named(body: bytes, kind: str) -> None:
    turned = DOOR.judge(body)
    assert isinstance(turned, Turned)
    assert turned.kind == kind
    assert turned.explain


def test_what_kafka_would_surely_refuse_is_refused_here() -> None:
    small = Door(Topic("user-events", config=(("max.message.bytes", "2000"),)), CONTRACT)
    for door, size in ((DOOR, RECORD_BYTES_MAX), (small, 2_000)):
        assert isinstance(door.judge(raw(comment(msg="x" * (size - 500)))), Taken)
        turned = door.judge(raw(comment(msg="x" * (size - 250))))
        assert isinstance(turned, Turned)
        assert turned.kind == "TooLarge"


def test_a_key_that_is_missing_or_has_a_nul_is_refused_and_an_unkeyed_topic_has_none() -> None:
    value = raw(comment(msg="\0"))
    for field, kind in (("nobody", "is missing"), ("msg", "has a NUL")):
        turned = Door(Topic("user-events", key=field), CONTRACT).judge(value)
        assert isinstance(turned, Turned)
        assert (turned.kind, kind in turned.explain[0]) == ("BadKey", True)
    assert Door(Topic("user-events", key=None), CONTRACT).judge(value) == Taken(None, value)


def test_topics_that_agents_write_take_no_events() -> None:
    app = load_app(read_settings(app="agents.app:app"))
    assert set(doors(app)) == {"user-events", "team-events"}
    assert notifications.name in app.contracts
