"""When a mark may go (D6): judged so that no single wrong clock lets it go early."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.expiry import expires_before_ms, is_expired, outlived, shown
from pipeline.core.idempotence import mark_time_ms, mark_value

DAY_MS = 86_400_000
HORIZON_MS = 7 * DAY_MS
NOW_MS = 1_700_000_000_000
TIMES = st.integers(0, 2**62)


def expired(applied_ms: int, record_ms: int, now_ms: int, newest_ms: int) -> bool:
    """Whether the mark of a record that was applied then may go now."""
    mark = mark_value(max(applied_ms, record_ms), bytes(16), ["comments"])
    return is_expired(mark, expires_before_ms(HORIZON_MS, now_ms, newest_ms))


@given(TIMES, TIMES, TIMES, TIMES)
def test_a_mark_goes_only_when_both_clocks_have_left_it_behind(applied_ms, record_ms, now_ms, newest_ms):
    old = max(applied_ms, record_ms) + HORIZON_MS
    assert expired(applied_ms, record_ms, now_ms, newest_ms) == (now_ms > old and newest_ms > old)


@given(TIMES)
def test_a_record_from_the_future_lets_no_mark_go(future_ms):
    assert not expired(NOW_MS, NOW_MS, NOW_MS + HORIZON_MS, NOW_MS + future_ms)


@given(TIMES)
def test_a_clock_that_runs_away_is_held_by_the_records(ahead_ms):
    assert not expired(NOW_MS, NOW_MS, NOW_MS + ahead_ms, NOW_MS + HORIZON_MS)


@given(st.integers(0, NOW_MS))
def test_a_record_with_an_old_time_is_remembered_from_when_it_was_applied(record_ms):
    assert not expired(NOW_MS, record_ms, NOW_MS + HORIZON_MS, NOW_MS + HORIZON_MS)


def test_nothing_goes_before_a_record_has_been_seen():
    assert not expired(0, 0, NOW_MS, 0)


@given(st.integers(-1, 2**62))
def test_a_mark_tells_its_time(time_ms):
    assert mark_time_ms(mark_value(time_ms, bytes(16), ["a", "b"])) == max(time_ms, 0)


def test_an_hour_does_not_matter_at_a_horizon_of_days():
    for off_ms in (-3_600_000, 3_600_000):
        assert not expired(NOW_MS, NOW_MS, NOW_MS + 6 * DAY_MS + off_ms, NOW_MS + 6 * DAY_MS)
        assert expired(NOW_MS, NOW_MS, NOW_MS + 8 * DAY_MS + off_ms, NOW_MS + 8 * DAY_MS)


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        ({"retention.ms": "604800000"}, None),
        ({"retention.ms": "604800001"}, "for 7 d"),
        ({"retention.ms": "-1"}, "for ever"),
        ({}, "for ever"),
        ({"retention.ms": "1000", "cleanup.policy": "compact"}, "for ever"),
        ({"retention.ms": "1000", "cleanup.policy": "compact,delete"}, None),
        ({"retention.ms": "1209600000", "cleanup.policy": "delete"}, "for 14 d"),
    ],
)
def test_a_source_that_keeps_records_for_longer_than_marks_is_named(config, kept):
    assert outlived(7 * 86_400.0, {"t": config}) == ({} if kept is None else {"t": kept})


def test_spans_are_shown_in_the_largest_unit_that_they_fill():
    assert [shown(s) for s in (1, 60, 3_600, 86_399, 86_400)] == ["1 s", "1 min", "1 h", "24 h", "1 d"]
