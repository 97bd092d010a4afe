"""The error record is acknowledged before the offset moves; an error topic that takes nothing blocks (E2)."""

import pytest

from agents.user_events import user_events
from pipeline.testing import Kit

POISON = b"Robert'); drop table students"


@pytest.fixture
def kit():
    with Kit(user_events, attempts_max=3) as kit:
        yield kit


def position(kit: Kit) -> int:
    return kit.worker.unit(0).positions["user-events"]


def test_while_the_error_topic_takes_nothing_nothing_is_skipped_or_committed(kit: Kit) -> None:
    first = kit.given("comment.created", user_id=1, msg="before")
    kit.then_event("comment.counted", {"user_id": 1, "count": 1})
    kit.given_raw(POISON)
    kit.given("comment.created", user_id=1, msg="after")
    kit.fail("broker", range(1, 100))
    kit.then_blocked("broker")
    assert position(kit) == 1
    assert kit.rejections() == []
    kit.then_nothing_else()
    kit.worker.failures.plan("broker", [], "refused")
    kit.worker.restart("kept")
    kit.feed([first])
    assert kit.worker.log.of_topic("hardparts.errors") == []


@pytest.mark.parametrize("failure", ["refused", "reply lost"])
def test_the_error_record_comes_when_the_topic_takes_it_again_and_the_order_stays(kit: Kit, failure) -> None:
    kit.given("comment.created", user_id=1, msg="before")
    kit.given_raw(POISON)
    kit.given("comment.created", user_id=1, msg="after")
    kit.fail("broker", [1, 2, 3], failure)
    for count in (1, 2):
        kit.then_event("comment.counted", {"user_id": 1, "count": count})
    places = {(record.hp["source-partition"], record.hp["source-offset"]) for record in kit.rejections()}
    assert places == {("0", "1")}
    assert position(kit) == 3


@pytest.mark.parametrize("before", ["record", "apply", "complete"])
def test_a_crash_before_the_offset_moves_leaves_the_error_record_written(kit: Kit, before: str) -> None:
    kit.given_raw(POISON)
    kit.crash(before)
    records = kit.rejections()
    times = 2 if before == "record" else 1
    assert [record.value for record in records] == [POISON] * times, (
        "again only if the changelog doesn't say it is done"
    )
    assert position(kit) == 1
