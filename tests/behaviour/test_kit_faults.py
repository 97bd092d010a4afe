"""The kit's faults: which call fails and where the process dies are part of the input (X4, P2)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.read_model import read_model
from agents.user_events import user_events
from pipeline.core.errors import Blocking
from pipeline.testing import STEPS, Kit, duplicated, interleave, reordered

POINTS = ("after-outputs", "after-changelog", "after-rocksdb", "in-recovery")


@pytest.mark.parametrize("place", [*STEPS, *POINTS])
@pytest.mark.parametrize("disk", ["memory", "RocksDB"])
def test_a_crash_between_any_two_steps_loses_nothing_and_counts_nothing_twice(place, disk, tmp_path):
    with Kit(user_events, batch_records_max=2, data_dir=tmp_path if disk == "RocksDB" else None) as kit:
        for text in "abcde":
            kit.given("comment.created", user_id=1, msg=text)
        kit.crash(place, times=1 if place == "in-recovery" else 2)
        for count in range(1, 6):
            kit.then_event("comment.counted", {"user_id": 1, "count": count})
        kit.then_nothing_else()
        assert kit.worker.crashes == [place]
        assert kit.state("comments", 1) == 5
        kit.restart("lost")
        assert kit.state("comments", 1) == 5


def test_a_crash_after_the_outputs_repeats_them_under_the_same_msg_ids():  # O3
    kit = Kit(user_events)
    kit.given("comment.created", user_id=1, msg="a")
    kit.crash("record")
    first, again = kit.physical_events()
    assert first == again
    assert len(kit.events()) == 1


def test_a_crash_place_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="is none of decode"):
        Kit(user_events).crash("lunch")


@pytest.mark.parametrize("failure", ["refused", "reply lost"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_broker_call_that_fails_is_redone_with_ownership_taken_anew(failure, call):
    kit = Kit(user_events, batch_records_max=1)
    for text in "abc":
        kit.given("comment.created", user_id=1, msg=text)
    kit.fail("broker", [call], failure)
    for count in (1, 2, 3):
        kit.then_event("comment.counted", {"user_id": 1, "count": count})
    kit.then_nothing_else()
    assert kit.state("comments", 1) == 3


def test_a_database_that_is_away_blocks_and_then_nothing_is_missing():  # E3
    kit = Kit(read_model, attempts_max=2)
    kit.fail("database", [1, 2, 3])
    kit.given("comment.counted", user_id=1, count=7)
    assert kit.then_blocked("database").message == "fault injected: refused"
    assert kit.rows("comment_counts") == []
    kit.run()
    assert kit.rows("comment_counts") == [
        {"user_id": "1", "count": 7}
    ]  # the second run: one more failure, then success
    assert kit.blocked() is None
    kit.then_nothing_else()


def _story(failing: set[int]) -> list[object]:
    kit = Kit(read_model, attempts_max=1, batch_records_max=1)
    kit.fail("database", failing)
    seen: list[object] = []
    for count in range(1, 4):
        kit.given("comment.counted", user_id=1, count=count)
        kit.run()
        blocked = kit.blocked()
        seen.append((blocked.record.offset, blocked.reason) if blocked else kit.rows("comment_counts"))
    return seen


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(1, 5), max_size=3))
def test_the_same_failing_calls_fail_in_the_same_way(failing):  # P2
    assert _story(failing) == _story(failing)
    if 1 in failing:
        assert _story(failing)[0] == (0, "database")


def test_interleave_keeps_the_order_of_each_lane():
    assert interleave([[1, 2, 3], [10, 20]], [1, 0, 1, 0, 0]) == [10, 1, 20, 2, 3]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 3), max_size=8), st.lists(st.integers(0, 5), max_size=12))
def test_reordered_keeps_the_order_of_each_key(users, choices):
    kit = Kit(user_events)
    inputs = [kit.event("comment.created", user_id=user, msg=str(at)) for at, user in enumerate(users)]
    shuffled = reordered(inputs, choices)
    assert sorted(one.msg_id for one in shuffled) == sorted(one.msg_id for one in inputs)
    for user in (1, 2, 3):
        key = str(user).encode()
        assert [one for one in shuffled if one.key == key] == [one for one in inputs if one.key == key]


def test_duplicated_repeats_the_picked_ones():
    assert duplicated(["a", "b"], [1, 2]) == ["a", "b", "b", "a"]
    assert duplicated([], [1]) == []


def test_calls_and_times_count_from_one():
    kit = Kit(user_events)
    with pytest.raises(ValueError, match="count from 1"):
        kit.fail("broker", [0])
    with pytest.raises(ValueError, match="count from 1"):
        kit.crash("record", times=0)


def test_an_effect_outside_can_be_planned_to_fail():
    acted: list[str] = []
    kit = Kit(_outside_agent(acted), attempts_max=1)
    kit.fail("outside", [1])
    kit.given("comment.created", user_id=1, msg="a")
    assert isinstance(kit.then_blocked("outside").message, str)
    assert acted == []
    kit.run()
    kit.then_nothing_else()
    assert acted == ["a"]


def _outside_agent(acted: list[str]):
    from pipeline.core.effects import Outside
    from pipeline.core.views import Claims
    from tests.behaviour.small_agent import small_agent

    def acts(event):
        async def act() -> None:
            if not event.data["msg"]:
                raise Blocking("never", "nothing")
            acted.append(event.data["msg"])

        return [Outside("acts", act, "an act")]

    return small_agent({"comment.created": acts}, state=[Claims("acts")])
