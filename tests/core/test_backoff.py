"""Exponential backoff with full jitter and a cap (E3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.backoff import Backoff


def test_the_bound_doubles_up_to_the_cap():
    backoff = Backoff(0.1, 10.0)
    assert [backoff.bound_s(attempt) for attempt in range(1, 10)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


@given(st.integers(1, 10**9), st.floats(0, 1))
def test_a_delay_is_anywhere_between_nothing_and_the_bound_however_many_attempts(attempt, share):
    backoff = Backoff()
    delay_s = backoff.delay_s(attempt, lambda low, high: low + share * (high - low))
    assert 0 <= delay_s <= backoff.bound_s(attempt) <= backoff.cap_s
    assert delay_s == share * backoff.bound_s(attempt)


def test_attempts_count_from_one():
    with pytest.raises(ValueError, match="count from 1"):
        Backoff().bound_s(0)
