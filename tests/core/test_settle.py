"""Steps 3 and 4: duplicates, effects, sizes, and whose fault a failure is (D3, E6, O3, D8)."""

import orjson
import pytest

from pipeline.contracts.catalogue import load_contracts
from pipeline.core.agent import Definition
from pipeline.core.decode import decode
from pipeline.core.effects import Audit, Upsert, publish
from pipeline.core.errors import Blocking, Reject
from pipeline.core.event_time import DAY_MS
from pipeline.core.idempotence import derived_msg_id, mark_value
from pipeline.core.outcome import Blocked, Candidate, Conflict, Duplicate, Rejected
from pipeline.core.record import StoredRecord
from pipeline.core.settle import Limits, UndeclaredOutput, already_seen, conclude, failed
from pipeline.core.state import State
from pipeline.core.tables import Columns, Tables
from pipeline.core.topic import Topic
from pipeline.core.views import Relation
from pipeline.runtime.check import BATCH_BYTES_FLOOR, limits
from tests.behaviour.small_agent import CONTRACTS

SOURCE, OUTPUT, OTHER = Topic("user-events"), Topic("comment-counts"), Topic("messages")
TABLES = Tables({"t": Columns(frozenset("ab"), frozenset("a"), frozenset())})
LOADED = load_contracts(CONTRACTS)
MSG_ID = "8700635f-1802-417e-89e7-595ad3600104"


def definition(**options) -> Definition:
    agent = Definition("agent", (SOURCE,), outputs=(OUTPUT,), **options)
    agent.on("comment.created")(lambda event: [])
    return agent


def candidate(meta=None, key: bytes = b"1", source: Topic = SOURCE) -> Candidate:
    value = LOADED["user-events"].encode("comment.created", MSG_ID, {"user_id": 1, "msg": "x"}, meta)
    record = StoredRecord("user-events", 0, 5, 77, key, value)
    (decided,) = decode([record], source, LOADED["user-events"], definition())
    assert isinstance(decided, Candidate)
    return decided


def counted(count: object = 1, **more):
    return publish(OUTPUT, "comment.counted", user_id=1, count=count, **more)


def concluded(effects, item=None, state=None, limits=None, now_ms=0):
    item = item or candidate()
    state = state or State("1", {}, {}.get)
    return conclude(item, effects, state, definition(), LOADED, limits or Limits(), now_ms, TABLES)


def test_a_mark_tells_new_duplicate_and_conflict_apart():  # D3
    item = candidate()
    assert already_seen(item, None) is None
    assert isinstance(already_seen(item, mark_value(1, item.digest)), Duplicate)
    assert isinstance(already_seen(item, mark_value(1, bytes(16))), Conflict)


@pytest.mark.parametrize("effects", [None, [], ()])
def test_an_event_without_effects_is_applied_with_its_mark(effects):
    applied = concluded(effects)
    assert applied.rows == ((candidate().mark, mark_value(77, candidate().digest)),)
    assert (applied.outputs, applied.upserts, applied.audits, applied.outside) == ((), (), (), ())


def test_effects_are_sorted_by_what_they_are_and_rows_hold_the_mark_last():
    state = State("1", {}, {}.get)
    state.put(b"v\x001", b"2")
    upsert, audit = Upsert("t", {"a": 1}), Audit("seen", {})
    applied = concluded([upsert, counted(), audit], state=state)
    assert (applied.upserts, applied.audits) == ((upsert,), (audit,))
    assert [row for row, _ in applied.rows] == [b"v\x001", candidate().mark]


def test_an_output_has_key_time_meta_and_a_msg_id_of_its_name_or_position():  # O3, D8, D9
    applied = concluded([counted(), counted(output="named")], candidate(meta={"a": [1]}))
    bodies = [orjson.loads(output.value) for output in applied.outputs]
    assert [body["msg_id"] for body in bodies] == [
        derived_msg_id(MSG_ID, "agent", "0"),
        derived_msg_id(MSG_ID, "agent", "named"),
    ]
    assert all(
        (output.key, output.timestamp, output.topic) == (b"1", 77, "comment-counts") for output in applied.outputs
    )
    assert all(body["meta"] == {"a": [1]} for body in bodies)


def test_a_body_that_breaks_its_contract_raises():  # X2
    with pytest.raises(Exception, match="count"):
        concluded([counted("one")])


def test_an_output_on_an_undeclared_topic_raises():
    with pytest.raises(UndeclaredOutput, match="messages"):
        concluded([publish(OTHER, "message.accepted", user_id=1, to=2, msg="x")])


def test_something_that_is_no_effect_raises():
    with pytest.raises(TypeError, match="returns effects, not str"):
        concluded(["an effect"])


def test_rows_that_do_not_fit_a_batch_are_a_rejection():
    state = State("1", {}, {}.get)
    for at in range(10):
        state.put(b"%d" % at, b"x" * 100)
    with pytest.raises(Reject, match="11 rows of state take"):
        concluded([], state=state, limits=Limits(rows_bytes_max=1000))


def test_one_row_that_does_not_fit_a_batch_is_a_rejection():
    state = State("1", {}, {}.get)
    state.put(b"picture\x001", b"x" * 2_000_000)
    with pytest.raises(Reject, match="2 rows of state take"):
        concluded([], state=state)


def test_seven_rows_under_long_keys_do_not_fit_a_small_changelog():
    state = State("1", {}, {}.get)
    for letter in "abcdefg":
        Relation("follows").of(state).add("😀" * 999 + letter)
    with pytest.raises(Reject, match="8 rows of state take"):
        concluded([], state=state, limits=limits({"changelog": BATCH_BYTES_FLOOR}, ["changelog"], 500))


def test_an_output_of_an_old_record_is_written_under_a_time_that_its_topic_keeps():
    now_ms = 40 * DAY_MS
    fresh, old = (concluded([counted()], now_ms=at_ms).outputs[0] for at_ms in (77 + DAY_MS, now_ms))
    assert (fresh.timestamp, fresh.headers) == (77, [])
    assert (old.timestamp, old.headers) == (now_ms - DAY_MS, [("hp-event-time", b"77")])
    tight = Limits(ages_ms={"comment-counts": 5_000}, age_ms_small=5_000)
    (output,) = concluded([counted()], limits=tight, now_ms=9_000).outputs
    assert (output.timestamp, output.headers) == (4_000, [("hp-event-time", b"77")])


def test_a_record_key_that_does_not_fit_a_batch_as_a_mark_is_a_rejection():
    unkeyed = Topic("user-events", key=None)
    with pytest.raises(Reject, match="1 rows of state take"):
        concluded([], candidate(key=b"k" * 950_000, source=unkeyed))


def test_an_output_that_does_not_fit_its_topic_is_a_rejection():
    limits = Limits(record_bytes_max={"comment-counts": 100}, small_bytes=0)
    with pytest.raises(Reject, match="more than topic comment-counts accepts"):
        concluded([counted()], limits=limits)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (Reject("no", ["why"]), Rejected, "Reject"),
        (Blocking("away", "smtp"), Blocked, "smtp"),
        (KeyError("x"), Blocked, "KeyError"),
        (ZeroDivisionError("x"), Blocked, "bug"),
    ],
)
def test_whose_fault_a_failure_is_follows_from_its_type(error, kind, said):  # E6
    outcome = failed(candidate(), error, definition(blocking=(LookupError,)))
    assert type(outcome) is kind
    assert said == (outcome.rejection.error_class if isinstance(outcome, Rejected) else outcome.reason)


def test_a_bug_goes_to_the_error_topic_when_the_agent_says_so():  # E6
    outcome = failed(candidate(), ZeroDivisionError("x"), definition(on_bug="error-topic"))
    assert isinstance(outcome, Rejected)
    assert outcome.rejection.message == "ZeroDivisionError: x"
    assert "ZeroDivisionError" in outcome.rejection.stack
