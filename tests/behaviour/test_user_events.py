"""What the user-events agent does with each type of event."""

import pytest

from agents import topics
from agents.user_events import user_events
from pipeline.core.errors import Misconfigured
from pipeline.core.idempotence import derived_msg_id
from pipeline.testing import POISON, Kit
from tests.behaviour.small_agent import small_agent

ALICE = "8700635F-1802-417E-89E7-595AD3600104"


@pytest.fixture
def kit():
    with Kit(user_events) as kit:
        yield kit


def test_follow_message_unfollow_delivers_the_message(kit):  # O2
    kit.given("user.followed", user_id=1, followee_id=2)
    kit.given("message.sent", user_id=1, to=2, msg="hi")
    kit.given("user.unfollowed", user_id=1, followee_id=2)
    kit.then_event("notification.requested", {"user_id": 2, "text": "user 1 follows you"}, key="2")
    kit.then_event("message.accepted", {"user_id": 1, "to": 2, "msg": "hi"}, key="1")
    kit.then_nothing_else()
    assert kit.state("follows", "1/2") is None


def test_follow_unfollow_message_is_refused_which_is_no_error(kit):  # O2
    kit.given("user.followed", user_id=1, followee_id=2)
    kit.given("user.unfollowed", user_id=1, followee_id=2)
    kit.given("message.sent", user_id=1, to=2, msg="hi")
    kit.then_event("notification.requested", {"user_id": 2, "text": "user 1 follows you"})
    kit.then_event("notification.requested", {"user_id": 1, "text": "message to 2 refused: not following"}, key="1")
    kit.then_nothing_else()


def test_the_events_of_another_topic_keep_their_place_in_the_order(kit):
    kit.given("team.joined", user_id=1, team_id=9)
    kit.given("user.followed", user_id=1, followee_id=2)
    kit.given("team.joined", user_id=1, team_id=10)
    texts = [event.data["text"] for event in kit.events()]
    assert texts == ["you joined team 9", "user 1 follows you", "you joined team 10"]


def test_ids_1_2_3_an_error_and_1_2_3_again_count_3(kit):  # D2
    comments = [kit.given("comment.created", user_id=1, msg=text) for text in "abc"]
    kit.given_raw(b"Robert'); drop table students")
    kit.feed(comments)
    for count in (1, 2, 3):
        kit.then_event("comment.counted", {"user_id": 1, "count": count})
    kit.then_rejected("MalformedJson")
    kit.then_nothing_else()
    assert kit.state("comments", 1) == 3
    kit.restart("lost")  # the state is rebuilt from the changelog
    kit.feed(comments)
    kit.then_nothing_else()
    assert kit.state("comments", 1) == 3


def test_a_duplicate_in_the_same_batch_counts_once_too(kit):  # D1
    first = kit.given("comment.created", user_id=1, msg="a")
    kit.feed([first, first])
    kit.then_event("comment.counted", {"user_id": 1, "count": 1})
    kit.then_nothing_else()


def test_the_same_msg_id_with_another_body_loses_and_is_audited(kit):  # D3
    first = kit.given("comment.created", user_id=1, msg="a")
    kit.given("comment.created", user_id=1, msg="b", msg_id=first.msg_id)
    kit.then_event("comment.counted", {"user_id": 1, "count": 1})
    audit = kit.then_audited("conflict")
    assert (audit["msg_id"], audit["offset"]) == (first.msg_id, 1)
    kit.then_nothing_else()


def test_another_meta_is_no_other_body(kit):  # D3, D8
    first = kit.given("comment.created", user_id=1, msg="a", meta={"try": 1})
    kit.given("comment.created", user_id=1, msg="a", msg_id=first.msg_id, meta={"try": 2})
    kit.then_event("comment.counted", {"user_id": 1, "count": 1})
    kit.then_nothing_else()


def test_ids_compare_in_lower_case_in_the_record_key_too(kit):  # D3
    msg_id = "8700635f-1802-417e-89e7-595ad3600104"
    kit.given("comment.created", user_id=ALICE, msg="a", msg_id=msg_id)
    kit.given("comment.created", user_id=ALICE, msg="a", msg_id=msg_id.upper())
    lower = kit.event("comment.created", user_id=ALICE, msg="b")
    kit.feed([lower._replace(key=ALICE.lower().encode())])
    assert [event.data["count"] for event in kit.events()] == [1, 2]
    assert kit.rejections() == []
    assert kit.state("comments", ALICE.lower()) == 2


def test_users_whose_ids_differ_only_in_case_are_one_user(kit):  # D3
    kit.given("user.followed", user_id=1, followee_id=ALICE)
    kit.given("message.sent", user_id=1, to=ALICE.lower(), msg="hi")
    kit.then_event("notification.requested", {"user_id": ALICE, "text": "user 1 follows you"})
    kit.then_event("message.accepted", {"user_id": 1, "to": ALICE.lower(), "msg": "hi"})


def test_meta_is_passed_on_untouched(kit):  # D8
    meta = {"trace": {"id": "x", "hops": [1, 2]}, "schema_version": "7"}
    kit.given("comment.created", user_id=1, msg="a", meta=meta)
    assert kit.then_event("comment.counted", {"user_id": 1, "count": 1}).meta == meta


@pytest.mark.parametrize("meta", [None, {}, {"version": 1}, {"version": 2, "dry_run": True}])
def test_meta_is_never_branched_on(kit, meta):  # D8
    kit.given("comment.created", user_id=1, msg="a", meta=meta)
    kit.then_event("comment.counted", {"user_id": 1, "count": 1})
    kit.then_nothing_else()


def test_a_trace_header_goes_on_with_the_output(kit):
    header = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    kit.given("comment.created", user_id=1, msg="a", headers=[header])
    assert header in kit.then_event("comment.counted", {"user_id": 1, "count": 1}).headers


def test_the_msg_id_of_an_output_depends_on_names_that_a_redeploy_keeps(kit):  # D9
    given = kit.given("comment.created", user_id=1, msg="a", msg_id="8700635f-1802-417e-89e7-595ad3600104")
    event = kit.then_event("comment.counted", {"user_id": 1, "count": 1})
    assert event.msg_id == derived_msg_id(given.msg_id, "user-events", "comment-counted")
    assert event.msg_id == "a8b05eba-ac1e-59f8-9d67-e8573bdb253c"  # written down: a change of it repeats side effects


@pytest.mark.parametrize("name", POISON)
def test_a_poison_record_becomes_one_error_record_and_its_neighbours_are_processed(kit, name):  # E1
    poison, headers = POISON[name], (("x-app", b"\x00\xff"), ("hp-agent", b"spoofed"))
    kit.given("comment.created", user_id=1, msg="before")
    kit.given_raw(poison.value, poison.key, headers=headers)
    kit.given("comment.created", user_id=1, msg="after")
    kit.then_event("comment.counted", {"user_id": 1, "count": 1})
    kit.then_event("comment.counted", {"user_id": 1, "count": 2})
    error = kit.then_rejected()
    assert (error.key, error.value) == (poison.key, poison.value)
    assert error.headers == (("x-app", b"\x00\xff"),)
    assert (error.hp["source-topic"], error.hp["source-offset"], error.hp["agent"]) == (
        "user-events",
        "1",
        "user-events",
    )
    kit.then_nothing_else()


@pytest.mark.parametrize("name", ["tombstone", "key not UTF-8", "field missing"])
def test_a_poison_record_says_the_same_in_every_redo(kit, name):  # E1
    kit.given_raw(*POISON[name])
    kit.crash("record")
    first, again = kit.rejections()
    assert first.reason == again.reason
    assert (first.key, first.value) == (again.key, again.value)


def test_a_rejected_msg_id_is_not_marked_so_its_good_copy_applies(kit):
    good = kit.event("comment.created", user_id=1, msg="a")
    kit.feed([good._replace(key=b"2"), good])
    kit.then_rejected("BadKey")
    kit.then_event("comment.counted", {"user_id": 1, "count": 1})
    kit.then_nothing_else()


def test_an_event_cannot_be_changed_by_its_handler():  # D7
    tried: list[str] = []

    def changes(event):
        def attempt(what, act):
            try:
                act()
            except (AttributeError, TypeError):
                tried.append(what)

        attempt("field of data", lambda: event.data.__setitem__("msg", "x"))
        attempt("data", lambda: setattr(event, "data", {}))
        attempt("msg_id", lambda: setattr(event, "msg_id", "x"))
        attempt("data's inside", lambda: setattr(event.data, "_fields", {}))
        attempt("nested", lambda: event.meta["list"].append(3))
        attempt("deleted", lambda: event.data.__delitem__("msg"))
        return []

    kit = Kit(small_agent({"comment.created": changes}))
    kit.given("comment.created", user_id=1, msg="a", meta={"list": [1, 2]})
    kit.then_nothing_else()
    assert tried == ["field of data", "data", "msg_id", "data's inside", "nested", "deleted"]


def test_a_type_that_is_handled_twice_is_refused_at_start():  # X1
    agent = small_agent({"comment.created": lambda event: []})
    with pytest.raises(Misconfigured, match=r"agent 'small': 'comment.created' is handled by .* and .*: keep one"):
        agent.on("comment.created")(lambda event: [])


@pytest.mark.parametrize("type_", ["user.followed", "no.such"])
def test_a_type_without_a_handler_follows_the_agents_policy(type_):  # X1
    def one(agent):
        kit = Kit(agent)
        raw = kit.event("user.followed", user_id=1, followee_id=2)
        kit.feed([raw._replace(value=raw.value.replace(b"user.followed", type_.encode()))])
        kit.given("comment.created", user_id=1, msg="a")
        return kit

    def ignores(event):
        return []

    kit = one(small_agent({"comment.created": ignores}, unknown="ignore"))
    kit.then_nothing_else()
    assert kit.worker.unit(0).positions == {"user-events": 2}
    kit = one(small_agent({"comment.created": ignores}, unknown="error-topic"))
    kit.then_rejected("UnknownType")
    kit.then_nothing_else()
    kit = one(small_agent({"comment.created": ignores}, unknown="crash"))
    kit.then_crashed("UnknownEventType: user-events[0]@0")
    assert kit.rejections() == []
    assert kit.worker.unit(0).positions == {"user-events": 0}


def test_an_event_whose_output_does_not_fit_the_broker_is_rejected():
    from pipeline.core.effects import publish

    def echoes(event):
        return [publish(topics.messages, "message.accepted", user_id=1, to=2, msg=event.data["msg"] * 4)]

    kit = Kit(small_agent({"comment.created": echoes}, outputs=[topics.messages]))
    kit.given("comment.created", user_id=1, msg="x" * 300_000)
    kit.given("comment.created", user_id=1, msg="y")
    kit.then_rejected("more than topic messages accepts")
    kit.then_event("message.accepted", {"user_id": 1, "to": 2, "msg": "yyyy"})
    kit.then_nothing_else()
