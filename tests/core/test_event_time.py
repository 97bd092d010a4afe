"""The time of an output, and the time of its event where that is another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.event_time import AHEAD_MS_MAX, DAY_MS, first_time, output_time
from pipeline.core.record import StoredRecord

TIMES = st.integers(0, 2**45)


def record(at_ms: int, *headers: tuple[str, bytes]) -> StoredRecord:
    return StoredRecord("user-events", 0, 1, at_ms, b"1", b"x", headers)


@given(TIMES, st.integers(2 * DAY_MS, 2**44), st.integers(0, DAY_MS))
def test_an_output_is_never_older_or_newer_than_the_broker_takes_and_the_original_is_kept(at_ms, now_ms, age_ms):
    written_ms, original = output_time(record(at_ms), now_ms, age_ms)
    assert now_ms - age_ms <= written_ms <= now_ms + AHEAD_MS_MAX
    assert (written_ms if original is None else int(original)) == at_ms
    if written_ms == at_ms:
        assert original is None, "a time that is fine needs no header"


@given(TIMES, st.lists(st.integers(2 * DAY_MS, 2**44), min_size=1, max_size=5))
def test_the_original_survives_any_number_of_agents(at_ms, clocks):
    hop, changed = record(at_ms), False
    for now_ms in clocks:
        written_ms, original = output_time(hop, now_ms, DAY_MS)
        changed = changed or written_ms != hop.timestamp
        hop = record(written_ms, *([] if original is None else [("hp-event-time", original)]))
    assert (first_time(hop) is not None) == changed
    assert int(first_time(hop) or hop.timestamp) == at_ms


def test_a_record_without_a_time_has_none_to_pass_on():
    assert output_time(record(-1), 3 * DAY_MS, DAY_MS) == (2 * DAY_MS, None)


@pytest.mark.parametrize("value", [b"", b"x", b"-5", b"1" * 21, "٣".encode(), b"1.5"])
def test_a_header_that_is_no_number_is_not_passed_on(value):
    assert output_time(record(5, ("hp-event-time", value)), 10, DAY_MS) == (5, None)
    old_ms = output_time(record(5, ("hp-event-time", value)), 2 * DAY_MS, DAY_MS)
    assert old_ms == (DAY_MS, b"5")
