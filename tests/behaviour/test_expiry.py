"""Marks past the horizon go, counts and relations stay, and no crash in between makes places disagree (D6)."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.user_events import user_events
from pipeline.core.idempotence import MARKS, mark_key
from pipeline.core.record import StoredRecord
from pipeline.core.turn import TURN
from pipeline.runtime import expiry
from pipeline.runtime.expiry import Pass
from pipeline.testing import Input, Kit
from pipeline.testing.failures import Crashed

HORIZON_S = 7 * 86_400.0
LATER_S = HORIZON_S + 3_600


@pytest.fixture(params=["memory", "RocksDB"])
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    with Kit(user_events, data_dir=tmp_path if request.param == "RocksDB" else None) as kit:
        yield kit


def later(kit: Kit, seconds: float = LATER_S) -> None:
    """So much time passes, for the worker and for the records that come."""
    kit.worker._now = itertools.count(kit.worker.now_ms() + int(seconds * 1000))


def slice_(kit: Kit, one: Pass | None = None) -> None:
    """The next slice of a pass over the marks."""
    kit._loop.run_until_complete((one or Pass(kit.worker.unit(0), HORIZON_S)).slice())


def marks(kit: Kit) -> set[bytes]:
    return {row for row, _ in kit.worker.unit(0).store.scan(MARKS)}


def folded(kit: Kit) -> dict[bytes, bytes]:
    """The agent's state as the changelog has it."""
    rows: dict[bytes, bytes] = {}
    for record in kit.worker.log.read(kit.worker._changelog, 0):
        assert record.key is not None
        if record.value is None:
            rows.pop(record.key, None)
        else:
            rows[record.key] = record.value
    rows.pop(TURN, None)
    return rows


def stored(kit: Kit) -> dict[bytes, bytes]:
    """The state as the unit has it."""
    scan = kit.worker.unit(0).store.scan
    return {row: value for prefix in (MARKS, b"comments\0", b"follows\0") for row, value in scan(prefix)}


def old_and_new(kit: Kit) -> tuple[Input, Input]:
    """A comment and a follow from long ago, and a comment of now."""
    old = kit.given("comment.created", user_id=1, msg="old")
    kit.given("user.followed", user_id=1, followee_id=2)
    kit.run()
    later(kit)
    new = kit.given("comment.created", user_id=1, msg="new")
    kit.run()
    return old, new


def test_marks_past_the_horizon_go_and_counts_and_relations_stay(kit: Kit) -> None:
    _, new = old_and_new(kit)
    assert len(marks(kit)) == 3
    slice_(kit)
    assert marks(kit) == {mark_key("1", new.msg_id)}
    assert kit.state("comments", 1) == 2
    assert kit.state("follows", "1/2") is True
    assert stored(kit) == folded(kit)
    assert kit.worker.context.metrics.text().count(b'marks_expired_total{agent="user-events"} 2.0') == 1


def test_a_repeat_within_the_horizon_is_a_duplicate_and_one_from_beyond_it_counts(kit: Kit) -> None:
    old, new = old_and_new(kit)
    slice_(kit)
    kit.feed([new])
    assert kit.state("comments", 1) == 2
    kit.feed([old])
    assert kit.state("comments", 1) == 3


def test_without_a_record_since_the_takeover_no_mark_goes(kit: Kit) -> None:
    kit.given("comment.created", user_id=1, msg="old")
    kit.run()
    later(kit)
    slice_(kit)
    kit.worker.restart("lost")
    slice_(kit)
    assert len(marks(kit)) == 1


def test_a_record_from_the_future_lets_no_mark_go(kit: Kit) -> None:
    kit.given("comment.created", user_id=1, msg="a")
    future = kit.event("comment.created", user_id=1, msg="b")
    time_ms = kit.worker.now_ms() + int(100 * LATER_S * 1000)
    kit.worker.arrive(StoredRecord(future.topic, 0, -1, time_ms, future.key, future.value))
    kit.run()
    slice_(kit)
    assert len(marks(kit)) == 2


def test_a_backlog_is_remembered_from_when_it_was_applied(kit: Kit) -> None:
    """Older than the horizon when it is read at last: its copies are still found."""
    old = kit.given("comment.created", user_id=1, msg="a")
    later(kit, 10 * LATER_S)
    kit.given("comment.created", user_id=1, msg="b")
    kit.run()
    slice_(kit)
    kit.feed([old])
    assert kit.state("comments", 1) == 2


@pytest.mark.parametrize("disk", ["kept", "lost"])
def test_a_crash_between_the_tombstones_and_rocksdb_leaves_nothing_that_disagrees(kit: Kit, disk: str) -> None:
    _, new = old_and_new(kit)
    kit.crash("after-rows")
    with pytest.raises(Crashed):
        slice_(kit)
    assert len(marks(kit)) == 3, "the tombstones are in the changelog only"
    kit.worker.restart("lost" if disk == "lost" else "kept")
    assert marks(kit) == {mark_key("1", new.msg_id)}
    assert stored(kit) == folded(kit)
    assert kit.state("comments", 1) == 2


@pytest.mark.parametrize("failure", ["refused", "reply lost"])
def test_tombstones_that_are_not_acknowledged_are_not_applied(kit: Kit, failure: str) -> None:
    old_and_new(kit)
    kit.fail("broker", [1], "refused" if failure == "refused" else "reply lost")
    with pytest.raises(Exception, match="fault injected"):
        slice_(kit)
    assert len(marks(kit)) == 3
    kit.restart()
    slice_(kit)
    assert stored(kit) == folded(kit)


def test_a_pass_goes_over_all_marks_in_slices(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "SLICE_ROWS", 10)
    for number in range(35):
        kit.given("comment.created", user_id=number % 3, msg="x")
    kit.run()
    later(kit)
    kit.given("comment.created", user_id=1, msg="x")
    kit.run()
    one, left = Pass(kit.worker.unit(0), HORIZON_S), [36]
    while left[-1] > 1:
        slice_(kit, one)
        left.append(len(marks(kit)))
        assert left[-2] - left[-1] <= 10, "a slice is small"
        assert len(left) <= 5, "a pass misses no mark"
    assert stored(kit) == folded(kit)
