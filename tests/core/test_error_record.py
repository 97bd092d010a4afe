"""Error and audit records (E1, E8, E10)."""

import hashlib

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.core.error_record import RECORD_BYTES_FLOOR, Failing, audit_record, error_record, fingerprint, text
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
    assert (out.topic, out.key, out.value, out.timestamp) == ("errors", key, value, 99), (
        "the time is now, not the record's"
    )
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
    assert (out.topic, out.key, out.timestamp) == ("audit", b"1", 99)
    assert dict(out.headers)["hp-source-timestamp"] == b"11"


EMOJI = st.text(st.sampled_from("x😀\x00é\n"), max_size=60).map(lambda some: some * 90)
LARGE = st.none() | st.integers(0, 40_000).map(lambda size: b"k" * size)
NAMES = st.sampled_from(["a", "hp-replay-id", "hp-event-time", "hp-agent", "😀" * 300])


@settings(deadline=None)
@given(
    texts=st.tuples(EMOJI, EMOJI, EMOJI, EMOJI),
    key=LARGE,
    value=LARGE,
    headers=st.lists(st.tuples(NAMES, st.integers(0, 9_000).map(bytes)), max_size=4),
    limit=st.integers(RECORD_BYTES_FLOOR, 60_000),
)
@example(("😀" * 4_000,) * 4, b"k" * 4_000, b"v", [("hp-replay-id", bytes(9_000))], RECORD_BYTES_FLOOR)
def test_an_error_record_fits_its_topic_whatever_there_is_to_say(texts, key, value, headers, limit):
    error_class, message, explain, stack = texts
    place = "t" * 249
    record = StoredRecord(place, 2**31, 2**62, 2**62, key, value, tuple(headers))
    failing = Failing("g" * 249, "a" * 249, "1.0", place)
    out = error_record(record, Rejection(error_class, message, (explain,), stack), failing, "errors", 2**62, limit)
    assert out.size_bytes() <= limit
    said = dict(out.headers)
    for content in said.values():
        if content.isascii() or b"hp-" not in content:
            content.decode()
    assert (said["hp-source-topic"], said["hp-source-offset"]) == (place.encode(), b"%d" % 2**62)
    assert said["hp-error-fingerprint"] == fingerprint(error_class, message, "a" * 249).encode()
    if "hp-omitted" not in said:
        assert (out.key, out.value) == (key, value), "whole, or hash and place instead"


def test_the_record_itself_stays_longer_than_what_is_said_of_its_error():
    record = StoredRecord("user-events", 3, 7, 11, b"1", b"v" * 8_000, (("a", b"b"),))
    rejection = Rejection("Reject", "no", ("line",) * 100, "s" * 3_000)
    out = make(record, rejection, limit=10_000)
    said = dict(out.headers)
    assert (out.key, out.value, said["a"]) == (b"1", record.value, b"b")
    assert (said["hp-error-stack"].decode(), said["hp-error-message"]) == ("…", b"no")
    assert said["hp-error-explain"].startswith(b"line\nline")


@given(st.dictionaries(EMOJI, EMOJI, max_size=8), st.integers(0, 40_000), st.integers(RECORD_BYTES_FLOOR, 60_000))
def test_an_audit_record_fits_its_topic_whatever_its_fields(fields, key_bytes, limit):
    record = StoredRecord("user-events", 3, 7, 11, b"k" * key_bytes, b"secret")
    out = audit_record("audit", "seen", record, FAILING, fields, 99, limit)
    body = orjson.loads(out.value)
    assert out.size_bytes() <= limit
    assert (body["topic"], body["partition"], body["offset"]) == ("user-events", 3, 7)
    assert body.get("omitted", 0) + len(body) - 6 - ("omitted" in body) == len(fields)
