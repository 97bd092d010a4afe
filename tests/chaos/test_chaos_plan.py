"""The schedule: the same for the same seed, every way to kill, and enough of each."""

from __future__ import annotations

from collections import Counter

import pytest

from pipeline.runtime.crashpoints import POINTS
from tests.chaos.faults import ACTS
from tests.chaos.plan import KILLS, OTHERS, ROLES, Options, schedule


def test_a_seed_gives_the_same_faults_and_another_seed_others() -> None:
    assert schedule(Options(7, kills=20)) == schedule(Options(7, kills=20))
    assert schedule(Options(7, kills=20)) != schedule(Options(8, kills=20))


@pytest.mark.parametrize("seed", range(20))
def test_fifty_kills_strike_each_named_point_at_least_five_times(seed: int) -> None:
    plan = schedule(Options(seed, kills=50))
    struck = Counter(fault.point for fault in plan if fault.kind == "crash")
    assert set(struck) == set(POINTS)
    assert min(struck.values()) >= 5
    assert sum(fault.kind in ("crash", *KILLS) for fault in plan) == 50


@pytest.mark.parametrize("seed", range(20))
def test_the_default_number_of_kills_has_every_way_once_and_every_other_fault(seed: int) -> None:
    plan = schedule(Options(seed))
    assert {fault.point for fault in plan if fault.kind == "crash"} == set(POINTS)
    assert {*KILLS, *OTHERS} <= {fault.kind for fault in plan}


def test_three_brokers_lose_each_role_in_turn() -> None:
    plan = schedule(Options(1, kills=0, brokers=3, broker_kills=8))
    assert Counter(fault.role for fault in plan if fault.kind == "broker") == dict.fromkeys(ROLES[3], 2)


def test_every_kind_of_fault_can_be_done_and_named() -> None:
    for brokers in (1, 3):
        for fault in schedule(Options(3, kills=30, brokers=brokers, broker_kills=4)):  # type: ignore[arg-type]
            assert fault.kind in ACTS
            assert fault.name in str(fault)
