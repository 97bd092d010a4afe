"""Every planted bug finds the place that it replaces, and has a scenario that brings it out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.chaos.planted.bugs import BUGS
from tests.chaos.planted.patching import replaced
from tests.chaos.planted.run import NOT_LIVE, Trying
from tests.chaos.planted.scenarios import BROUGHT_OUT_BY, SCENARIOS
from tests.oracle.process import REPOSITORY

PLANT_EACH = """
import os, sys
from pipeline.runtime.load import load_app
from pipeline.runtime.settings import read_settings
from tests.chaos.planted.bugs import BUGS, plant
app = load_app(read_settings())
for name in BUGS:
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            plant(name, app)
        except BaseException as error:
            print(f"{name}: {error!r}", flush=True)
            os._exit(1)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_there_are_at_least_twelve_and_each_has_its_scenario() -> None:
    assert len(BUGS) >= 12
    assert set(BROUGHT_OUT_BY) == set(BUGS)
    assert set(BROUGHT_OUT_BY.values()) == set(SCENARIOS)


def test_each_finds_what_it_replaces_in_the_product() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PLANT_EACH], cwd=REPOSITORY, capture_output=True, text=True, timeout=90, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_what_the_product_no_longer_has_cannot_be_replaced() -> None:
    with pytest.raises(AttributeError):
        replaced(Trying, "no_such_step", lambda original: original)


def test_a_bug_that_is_not_caught_and_a_control_that_is_red_are_not_as_wanted() -> None:
    caught = {"missing output": 3, "sums": 1}
    assert Trying("killed once", "drop", caught, "", 1.0).as_wanted
    assert Trying("killed once", "drop", {NOT_LIVE: 1}, "", 1.0).as_wanted
    assert not Trying("killed once", "drop", {}, "", 1.0).as_wanted
    assert not Trying("killed once", "drop", {}, "RuntimeError: it ended", 1.0).as_wanted
    assert Trying("killed once", "", {}, "", 1.0).as_wanted
    assert not Trying("killed once", "", caught, "", 1.0).as_wanted
    assert not Trying("killed once", "", {}, "TimeoutError: no end", 1.0).as_wanted
    assert Trying("killed once", "drop", caught, "", 1.0).caught_by == "missing output 3, sums 1"


def test_an_unknown_bug_is_refused_with_the_names_that_there_are() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos.planted", "no-such-bug", "worker"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "fence-off" in ended.stderr
