"""What the oracle expects, on inputs small enough to be worked out by hand."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid5

import pytest

from tests.oracle.fold import AmbiguousInput, Expected, Row, fold
from tests.oracle.records import COMMENT_COUNTS, MESSAGES, NOTIFICATIONS, Place, Record

A, B, C, D = (f"8700635f-1802-417e-89e7-595ad360010{n}" for n in "abcd")


def event(msg_id: str, kind: str, user: int | str = 7, **data: Any) -> tuple[bytes, bytes]:
    body = {"msg_id": msg_id, "type": kind, "data": {"user_id": user, **data}}
    return str(user).lower().encode(), json.dumps(body).encode()


def comment(msg_id: str, text: str = "hi", user: int | str = 7) -> tuple[bytes, bytes]:
    return event(msg_id, "comment.created", user, msg=text)


def folded(*records: tuple[bytes | None, bytes | None], topic: str = "user-events") -> Expected:
    return fold({topic: {0: [Record(topic, 0, at, key, value) for at, (key, value) in enumerate(records)]}})


def bodies(expected: Expected, topic: str) -> list[Any]:
    return [json.loads(output.body)[1] for output in expected.outputs[topic].values()]


def test_comments_are_counted_once_each_over_repeats_and_errors() -> None:  # D2
    bad = (b"7", b"Robert'); drop table students")
    expected = folded(comment(A), comment(B), comment(C), bad, comment(A), comment(B), comment(C))
    assert expected.counts() == {"7": 3}
    assert bodies(expected, COMMENT_COUNTS) == [{"user_id": 7, "count": n} for n in (1, 2, 3)]
    assert list(expected.errors) == [Place("user-events", 0, 3)]
    tally = expected.tallies[0]
    assert (tally.inputs, tally.applied, tally.duplicates, tally.errors) == (7, 3, 3, 1)
    assert expected.conflicts == []


def test_derived_ids_are_uuid5_of_the_input_and_the_name_of_the_output() -> None:  # O3
    (output,) = folded(comment(A.upper())).outputs[COMMENT_COUNTS].values()
    assert output.msg_id == str(uuid5(UUID(A), "user-events/comment-counted"))
    assert output.key == b"7"


def test_a_message_is_accepted_only_between_follow_and_unfollow() -> None:  # O2
    follow, unfollow = event(A, "user.followed", followee_id=8), event(B, "user.unfollowed", followee_id=8)
    message, late = event(C, "message.sent", to=8, msg="x"), event(D, "message.sent", to=8, msg="y")
    delivered = folded(follow, message, unfollow, late)
    assert bodies(delivered, MESSAGES) == [{"user_id": 7, "to": 8, "msg": "x"}]
    notified = [(o.key, o.refusal) for o in delivered.outputs[NOTIFICATIONS].values()]
    assert notified == [(b"8", False), (b"7", True)]
    refused = folded(follow, unfollow, message)
    assert bodies(refused, MESSAGES) == []
    assert [(o.key, o.refusal) for o in refused.outputs[NOTIFICATIONS].values()] == [(b"8", False), (b"7", True)]
    assert refused.errors == {}
    assert b"follows\x007\x008" not in delivered.rows[0] | refused.rows[0]


def test_following_again_after_a_repeat_of_the_unfollow_keeps_the_relation() -> None:
    follow, unfollow = event(A, "user.followed", followee_id=8), event(B, "user.unfollowed", followee_id=8)
    again = event(C, "user.followed", followee_id=8)
    expected = folded(follow, unfollow, again, unfollow, follow)
    assert expected.rows[0][b"follows\x007\x008"] == Row(b"1")
    assert len(expected.outputs[NOTIFICATIONS]) == 2


def test_a_team_joined_notifies_the_user() -> None:
    expected = folded(event(A, "team.joined", team_id=3), topic="team-events")
    assert bodies(expected, NOTIFICATIONS) == [{"user_id": 7}]
    assert expected.rows[0] == {f"_marks\x007\x00{A}".encode(): Row(None)}


def test_of_two_bodies_under_one_msg_id_the_first_wins_and_the_second_is_a_conflict() -> None:  # D3
    expected = folded(comment(A, "one"), comment(A, "two"), comment(A, "one"))
    assert expected.conflicts == [Place("user-events", 0, 1)]
    assert expected.counts() == {"7": 1}
    assert expected.tallies[0].duplicates == 2
    assert expected.errors == {}


def test_a_rejected_msg_id_is_not_used_up() -> None:
    rejected = event(A, "comment.created")
    expected = folded(rejected, comment(A), rejected)
    assert expected.counts() == {"7": 1}
    assert len(expected.errors) == 2


def test_rows_of_state_are_named_in_lower_case() -> None:  # D3
    user = "8700635F-1802-417E-89E7-595AD36001FF"
    expected = folded(comment(A.upper(), user=user), event(B, "user.followed", user, followee_id=user))
    low = user.lower()
    assert set(expected.rows[0]) == {
        f"comments\x00{low}".encode(),
        f"_marks\x00{low}\x00{A}".encode(),
        f"_marks\x00{low}\x00{B}".encode(),
        f"follows\x00{low}\x00{low}".encode(),
    }


def test_meta_is_passed_on_to_the_output() -> None:  # D8
    value = comment(A)[1][:-1] + b',"meta":{"from":"web"}}'
    (output,) = folded((b"7", value)).outputs[COMMENT_COUNTS].values()
    assert json.loads(output.body)[2] == {"from": "web"}


def test_an_input_with_more_than_one_right_answer_is_refused() -> None:
    with pytest.raises(AmbiguousInput):
        folded(comment(A, user=7), comment(A, user=8))
