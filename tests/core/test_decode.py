"""Step 2: every record becomes a candidate, a rejection or is passed over; only `crash` raises (C3, D3, X1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contracts.catalogue import load_contracts
from pipeline.core.agent import Definition
from pipeline.core.decode import REJECTIONS_MAX, UnknownEventType, decode
from pipeline.core.idempotence import content_digest, mark_key
from pipeline.core.outcome import Candidate, Ignored, Rejected
from pipeline.core.record import StoredRecord
from pipeline.core.topic import Topic
from tests.behaviour.small_agent import CONTRACTS

TOPIC = Topic("user-events")
CONTRACT = load_contracts(CONTRACTS)["user-events"]
MSG_ID = "8700635f-1802-417e-89e7-595ad3600104"
ALICE = "ABCDEF01-1802-417E-89E7-595AD3600104"


def agent(**options) -> Definition:
    definition = Definition("agent", (TOPIC,), **options)
    definition.on("comment.created")(lambda event: [])
    return definition


def record(user_id=1, key: bytes | None = b"1", type_="comment.created", **more) -> StoredRecord:
    value = CONTRACT.encode(type_, MSG_ID.upper(), {"user_id": user_id, "msg": "x"}, None)
    return StoredRecord("user-events", 0, 5, 77, key, value, **more)


def one(record: StoredRecord, topic: Topic = TOPIC, **options):
    (decided,) = decode([record], topic, CONTRACT, agent(**options))
    return decided


def test_decisions_end_at_so_many_rejections_that_nothing_else_would_get_its_turn():
    good, bad = record(), record()._replace(value=b"{")
    decided = decode([bad, good] * (REJECTIONS_MAX + 5), TOPIC, CONTRACT, agent())
    assert len(decided) == 2 * REJECTIONS_MAX - 1
    assert [type(one) for one in decided[-3:]] == [Rejected, Candidate, Rejected]
    assert len(decode([good] * 500, TOPIC, CONTRACT, agent())) == 500


def test_a_good_record_is_a_candidate_with_its_mark():
    decided = one(record(headers=(("traceparent", b"t"), ("x", b"y"))))
    assert isinstance(decided, Candidate)
    event = decided.event
    assert (event.msg_id, event.key, event.offset, event.timestamp_ms, event.trace) == (MSG_ID, "1", 5, 77, b"t")
    assert decided.mark == mark_key("1", MSG_ID)
    assert decided.digest == content_digest("comment.created", {"user_id": 1, "msg": "x"})


@pytest.mark.parametrize("key", [ALICE.encode(), ALICE.lower().encode()])
def test_a_uuid_key_compares_in_lower_case(key):  # D3
    decided = one(record(ALICE, key))
    assert isinstance(decided, Candidate)
    assert decided.event.key == ALICE.lower()


@pytest.mark.parametrize("key", [None, b"", b"2", b"01", b"1 ", b"\xff", b"1\0"])
def test_a_key_that_is_not_the_users_is_a_rejection(key):
    decided = one(record(key=key))
    assert isinstance(decided, Rejected)
    assert decided.rejection.error_class == "BadKey"


@pytest.mark.parametrize(
    ("key", "accepted"), [(b"any", True), (b"", True), (None, True), (b"\xff", False), (b"a\0b", False)]
)
def test_the_key_of_an_unkeyed_topic_is_none_or_any_text_without_nul(key, accepted):
    assert isinstance(one(record(key=key), Topic("user-events", key=None)), Candidate) == accepted


@given(st.none() | st.binary(max_size=60), st.none() | st.binary(max_size=10))
def test_no_bytes_raise(value, key):  # C3
    decided = one(StoredRecord("user-events", 0, 0, 0, key, value))
    assert isinstance(decided, Rejected)
    assert decided.rejection.message
    assert decided.rejection.error_class in {
        "Tombstone",
        "MalformedJson",
        "NotAnObject",
        "ContractBroken",
        "UnknownType",
    }


def test_order_and_number_of_records_stay():
    records = [record(), record(key=b"2"), record()._replace(value=None), record()]
    kinds = [type(decided) for decided in decode(records, TOPIC, CONTRACT, agent())]
    assert kinds == [Candidate, Rejected, Rejected, Candidate]


@pytest.mark.parametrize("known", [True, False])
def test_a_type_without_a_handler_follows_the_policy(known):  # X1
    followed = CONTRACT.encode("user.followed", MSG_ID, {"user_id": 1, "followee_id": 2}, None)
    value = followed if known else followed.replace(b"user.followed", b"no.such")
    unknown = record()._replace(value=value)
    assert isinstance(one(unknown, unknown="ignore"), Ignored)
    decided = one(unknown, unknown="error-topic")
    assert isinstance(decided, Rejected)
    assert decided.rejection.error_class == "UnknownType"
    with pytest.raises(UnknownEventType, match=r"user-events\[0\]@5.*told to crash"):
        one(unknown, unknown="crash")
