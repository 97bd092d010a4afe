"""The kit tells right from wrong, and says what is wrong (X4, X2, E6)."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from agents import topics
from agents.user_events import user_events
from pipeline.core.effects import Audit, publish
from pipeline.core.errors import Blocking, Reject
from pipeline.core.views import Counter
from pipeline.testing import Kit
from tests.behaviour.small_agent import small_agent


@pytest.fixture
def kit():
    with Kit(user_events) as kit:
        yield kit


def test_an_event_that_comes_out_as_said_passes(kit):
    given = kit.given("comment.created", user_id=1, msg="hello", meta={"trace": "t"})
    event = kit.then_event("comment.counted", {"user_id": 1, "count": 1}, key="1")
    assert event.msg_id != given.msg_id
    kit.then_nothing_else()


def test_a_wrong_payload_fails_field_by_field(kit):
    kit.given("comment.created", user_id=1, msg="hello")
    with pytest.raises(AssertionError, match=r"comment.counted") as failure:
        kit.then_event("comment.counted", {"user_id": True, "count": 2, "of": "x"})
    assert str(failure.value).splitlines()[1:] == [
        "  data.user_id: expected True, got 1",
        "  data.count: expected 2, got 1",
        "  data.of: expected 'x', missing",
    ]
    kit.then_event("comment.counted", {"user_id": 1, "count": 1})  # a failed look takes nothing away


def test_a_wrong_key_fails(kit):
    kit.given("comment.created", user_id=1, msg="hello")
    with pytest.raises(AssertionError, match=r"key: expected '2', got '1'"):
        kit.then_event("comment.counted", {"user_id": 1, "count": 1}, key="2")


def test_an_event_that_the_agent_does_not_declare_fails(kit):
    with pytest.raises(AssertionError, match=r"declares no output 'comment.deleted'; it has comment.counted"):
        kit.then_event("comment.deleted", {})


def test_an_event_that_is_missing_fails_and_says_what_came_instead(kit):
    kit.given("comment.created", user_id=1, msg="hello")
    with pytest.raises(AssertionError, match=re.escape("no message.accepted came out; there is\n  comment.counted")):
        kit.then_event("message.accepted", {"user_id": 1, "to": 2, "msg": "x"})


def test_an_event_too_many_fails(kit):
    kit.given("comment.created", user_id=1, msg="hello")
    with pytest.raises(AssertionError, match=r"no event was expected"):
        kit.then_no_event()


def test_events_of_one_topic_are_taken_in_order(kit):
    for text in ("a", "b"):
        kit.given("comment.created", user_id=1, msg=text)
    with pytest.raises(AssertionError, match=r"data.count: expected 2, got 1"):
        kit.then_event("comment.counted", {"user_id": 1, "count": 2})


def test_given_refuses_what_the_contract_refuses(kit):
    with pytest.raises(AssertionError, match=r"comment.created breaks its contract"):
        kit.given("comment.created", user_id="abc", msg="hello")
    with pytest.raises(AssertionError, match=r"no.such is in no source; there are comment.created"):
        kit.given("no.such", user_id=1)


def test_an_unexpected_rejection_fails(kit):
    kit.given_raw(b"{")
    kit.then_no_event()
    with pytest.raises(AssertionError, match=r"no rejection was expected, there is\n  MalformedJson"):
        kit.then_nothing_else()
    with pytest.raises(AssertionError, match=r"rejected for another reason than 'BadKey'"):
        kit.then_rejected("BadKey")
    kit.then_rejected("MalformedJson")
    with pytest.raises(AssertionError, match=r"nothing was rejected"):
        kit.then_rejected()


def test_nothing_blocked_audited_or_crashed_fails_when_said(kit):
    kit.given("comment.created", user_id=1, msg="hello")
    for verdict in (kit.then_blocked, kit.then_audited):
        with pytest.raises(AssertionError, match=r"nothing"):
            verdict("database")
    with pytest.raises(AssertionError, match=r"the process goes on"):
        kit.then_crashed()


def test_an_unexpected_exception_blocks_and_shows_its_stack():  # E6
    def broken(event):
        raise ZeroDivisionError("a bug")

    kit = Kit(small_agent({"comment.created": broken}))
    kit.given("comment.created", user_id=1, msg="hello")
    with pytest.raises(AssertionError, match=r"blocked on bug: ZeroDivisionError: a bug(.|\n)*in broken"):
        kit.then_no_event()
    with pytest.raises(AssertionError, match=r"blocked on 'bug', not 'database'"):
        kit.then_blocked("database")
    kit.then_blocked("bug")
    kit.then_no_event()


def test_the_three_classes_of_failure_are_told_apart_by_type():  # E6
    def fails(event):
        raise {"reject": Reject("no", ["because"]), "block": Blocking("away", "database"), "listed": KeyError("x")}[
            event.data["msg"]
        ]

    agent = small_agent({"comment.created": fails}, blocking=(KeyError,))
    for msg, reason in (("block", "database"), ("listed", "KeyError")):
        kit = Kit(agent)
        kit.given("comment.created", user_id=1, msg=msg)
        assert "away" in kit.then_blocked(reason).message or msg == "listed"
        assert kit.rejections() == []
    kit = Kit(agent)
    kit.given("comment.created", user_id=1, msg="reject")
    assert kit.then_rejected("Reject: no").hp["error-explain"] == "because"
    kit.then_nothing_else()


def test_a_bug_goes_to_the_error_topic_when_the_agent_says_so():  # E6
    def broken(event):
        raise ZeroDivisionError("a bug")

    kit = Kit(small_agent({"comment.created": broken}, on_bug="error-topic"))
    kit.given("comment.created", user_id=1, msg="hello")
    assert "in broken" in kit.then_rejected("ZeroDivisionError: a bug").hp["error-stack"]
    kit.then_nothing_else()


def test_an_output_on_an_undeclared_topic_is_a_bug_of_the_agent():
    def strays(event):
        return [publish(topics.messages, "message.accepted", user_id=1, to=2, msg="x")]

    kit = Kit(small_agent({"comment.created": strays}))
    kit.given("comment.created", user_id=1, msg="hello")
    assert "doesn't declare 'messages'" in kit.then_blocked("bug").message


@pytest.mark.parametrize("count", ["one", None, 1.5])
def test_a_bad_body_is_an_error_before_anything_is_sent(count):  # X2
    def wrong(event):
        return [
            publish(topics.comment_counts, "comment.counted", user_id=event.data["user_id"], count=1),
            publish(topics.comment_counts, "comment.counted", user_id=event.data["user_id"], count=count),
        ]

    kit = Kit(small_agent({"comment.created": wrong}))
    kit.given("comment.created", user_id=1, msg="hello")
    assert ":count" in kit.then_blocked("bug").message
    assert kit.physical_events() == []


def test_an_audit_record_of_the_agents_own_is_seen():
    def audits(event):
        return [Audit("seen", {"msg": event.data["msg"]})]

    kit = Kit(small_agent({"comment.created": audits}))
    kit.given("comment.created", user_id=1, msg="hello")
    with pytest.raises(AssertionError, match=r"audited is 'seen', not 'repeat'"):
        kit.then_audited("repeat")
    assert kit.then_audited("seen")["msg"] == "hello"


def test_state_is_read_as_tables_get_shows_it(kit):
    kit.given("user.followed", user_id=1, followee_id=2)
    assert kit.state("follows", "1/2") is True
    assert kit.state("follows", "1/3") is None
    with pytest.raises(AssertionError, match=r"no view 'likes': comments, follows"):
        kit.state("likes", "1")


async def test_an_async_test_is_told_that_the_kit_is_synchronous():
    kit = Kit(user_events)
    with pytest.raises(RuntimeError, match=r"plain test function"):
        kit.then_no_event()


def test_async_handlers_run_too():
    seen = Counter("seen")

    async def counts(event, state):
        seen.of(state).set(seen.of(state).get() + 1)
        return [
            publish(topics.comment_counts, "comment.counted", user_id=event.data["user_id"], count=seen.of(state).get())
        ]

    kit = Kit(small_agent({"comment.created": counts}, state=[seen]))
    for user in (1, 2, 1):
        kit.given("comment.created", user_id=user, msg="x")
    assert [(event.key, event.data["count"]) for event in kit.events()] == [("1", 1), ("2", 1), ("1", 2)]


def test_kits_share_nothing_when_they_run_side_by_side():
    def one(user: int) -> list[dict[str, int]]:
        with Kit(user_events) as kit:
            for _ in range(20):
                kit.given("comment.created", user_id=user, msg="x")
                kit.run()
            return [event.data for event in kit.events()]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(8))) == [
            [{"user_id": user, "count": count} for count in range(1, 21)] for user in range(8)
        ]
