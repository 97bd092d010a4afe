"""Error and audit records (E1, E8, E10)."""

import hashlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.error_record import Failing, audit_record, error_record, fingerprint, text
from pipeline.core.outcome import Rejection
from pipeline.core.record import StoredRecord

FAILING = Failing("group", "agent", "1.0", "user-events")
BYTES = st.none() | st.binary(max_size=40)
HEADERS = st.lists(
    st.tuples(st.sampled_from(["a", "hp-agent", "hp-x", "hp-replay-id", "traceparent"]), st.binary(max_size=5))
)


def make(record, rejection=None, limit=1_000_000, **more):
    return error_record(record, rejection or Rejection("Reject", "no"), FAILING, "errors", 99, limit, **more)


@given(BYTES, BYTES, HEADERS)
def test_key_value_and_headers_stay_byte_for_byte_and_ours_cannot_be_spoofed(key, value, headers):  # E1
    out = make(StoredRecord("user-events", 3, 7, 11, key, value, tuple(headers)))
    assert (out.topic, out.key, out.value, out.timestamp) == ("errors", key, value, 11)
    assert [header for header in out.headers if not header[0].startswith("hp-")] == [
        header for header in headers if not header[0].startswith("hp-")
    ]
    ours = [name for name, _ in out.headers if name.startswith("hp-")]
    assert len(ours) == len(set(ours))
    assert "hp-x" not in ours
    values = dict(out.headers)
    assert values["hp-agent"] == b"agent"
    replays = [content for name, content in headers if name == "hp-replay-id"]
    assert values.get("hp-replay-id") == (replays[-1] if replays else None)


def test_the_headers_say_what_happened_where_and_when():  # E10
    out = make(
        StoredRecord("user-events", 3, 7, 11, b"1", b"x"),
        Rejection("ContractBroken", "bad", ("line 1", "line 2"), "stack"), attempts=4, first_failed_ms=50,
    )  # fmt: skip
    values = {name: content.decode() for name, content in out.headers}
    assert values.pop("hp-error-fingerprint") == fingerprint("ContractBroken", "bad", "agent")
    assert values == {
        "hp-source-topic": "user-events", "hp-source-partition": "3", "hp-source-offset": "7",
        "hp-source-timestamp": "11", "hp-source-group": "group", "hp-error-class": "ContractBroken",
        "hp-error-message": "bad", "hp-error-stack": "stack", "hp-error-explain": "line 1\nline 2", "hp-attempts": "4",
        "hp-first-failed-at": "50", "hp-last-failed-at": "99", "hp-agent": "agent", "hp-app-version": "1.0",
        "hp-contract": "user-events",
    }  # fmt: skip


@pytest.mark.parametrize("part", ["key", "value", "headers"])
def test_a_record_that_does_not_fit_is_replaced_by_a_bounded_one(part):  # E1
    large = b"x" * 20_000
    parts = {"key": b"1", "value": b"v", "headers": ()} | {part: (("a", large),) if part == "headers" else large}
    record = StoredRecord("user-events", 3, 7, 11, parts["key"], parts["value"], parts["headers"])
    out = make(record, limit=10_000)
    assert out.size_bytes() <= 10_000
    assert orjson.loads(out.value) == {
        "sha256": hashlib.sha256(parts["value"]).hexdigest(), "value_bytes": len(parts["value"]),
        "key_bytes": len(parts["key"]), "topic": "user-events", "partition": 3, "offset": 7,
    }  # fmt: skip
    assert dict(out.headers)["hp-omitted"]
    assert out.key == (None if part == "key" else b"1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("user 12 unknown", "user 34 unknown", True),
        ("'a' is no id", "'b' is no id", True),
        ('"a" is no id', '"b" is no id', True),
        ("at 0xdeadbeef", "at 0x1", True),
        ("id 8700635f-1802-417e-89e7-595ad3600104", "id 11111111-1802-417e-89e7-595ad3600104", True),
        ("user unknown", "team unknown", False),
    ],
)
def test_failures_that_differ_only_in_ids_have_one_fingerprint(one, other, same):  # E8
    assert (fingerprint("Reject", one, "a") == fingerprint("Reject", other, "a")) == same


def test_class_and_agent_are_part_of_the_fingerprint():  # E8
    assert len({fingerprint("A", "m", "a"), fingerprint("B", "m", "a"), fingerprint("A", "m", "b")}) == 3


@given(st.text(st.characters(min_codepoint=0, max_codepoint=0xFFFF)))
def test_text_is_harmless_and_bounded_whatever_it_was(value):
    shown = text(value)
    shown.encode()
    assert not any(ord(char) < 32 and char not in "\n\t" for char in shown)
    assert "\x1b" not in text(value + "\x1b[31m")


def test_a_long_text_is_cut():
    assert len(text("x" * 10_000)) == 4001


def test_an_audit_record_names_kind_and_place():
    record = StoredRecord("user-events", 3, 7, 11, b"1", b"secret")
    out = audit_record("audit", "repeat", record, FAILING, {"msg_id": "id\x1b"}, 99)
    assert orjson.loads(out.value) == {
        "kind": "repeat", "agent": "agent", "topic": "user-events", "partition": 3, "offset": 7, "at_ms": 99,
        "msg_id": "id\\x1b",
    }  # fmt: skip
    assert (out.topic, out.key) == ("audit", b"1")
