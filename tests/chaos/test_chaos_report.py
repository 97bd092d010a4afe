"""What a run leaves: a verdict that a red fault or a red oracle turns, and a page that stands alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from xml.etree import ElementTree as ET

import pytest

from tests.chaos.outcome import Fired, Outcome
from tests.chaos.page import page
from tests.chaos.picture import picture
from tests.chaos.plan import Options, schedule
from tests.chaos.watch import Sample, Watch
from tests.oracle.report import Report


def outcome(fired: int | None = None, **differs: int) -> Outcome:
    """A run of ten kills, of whose faults so many fired."""
    options = Options(5)
    plan = schedule(options)
    report = Report(figures=Counter(inputs=60_000, applied=57_000))
    for kind, times in differs.items():
        for _ in range(times):
            report.differs(kind, "<somewhere> & elsewhere")
    happened = [
        Fired(fault, 5.0 * fault.number, 1.0, 1000 * fault.number, Sample(5.0, 900, 800), "<b>one died</b>")
        for fault in plan[: len(plan) if fired is None else fired]
    ]
    samples = [Sample(at / 2, 100 * at, 90 * at) for at in range(100)]
    return Outcome(options, plan, happened, samples, report, lag_zero_s=1.5, took_s=90)


def test_a_run_is_right_when_every_fault_fired_and_nothing_differs() -> None:
    assert outcome().ok
    assert not outcome(fired=3).ok
    assert not outcome(missing=1).ok
    failed = outcome()
    failed.failure = "AssertionError: fault 3 came after the input's end"
    assert not failed.ok
    unjudged = outcome()
    unjudged.report = None
    assert not unjudged.ok


def test_the_bound_is_stated_with_the_kills_that_fired_and_only_for_a_right_run() -> None:
    assert "No failure in 10 kills bounds the rate of failures at about 3/10 = 30.0% a kill" in outcome().bound
    assert outcome(missing=1).bound == "A red run bounds nothing."


def test_the_json_has_faults_samples_figures_and_how_to_repeat_it() -> None:
    document = json.loads(json.dumps(outcome(missing=2).as_json()))
    assert not document["ok"]
    assert document["command"].endswith('--seed 5"')
    assert document["oracle"]["different"] == {"missing": 2}
    assert len(document["faults"]) == len(document["plan"]) == 14
    assert document["faults"][0]["lag"] == 100
    assert sum(document["points"].values()) == 8


def test_the_page_loads_nothing_and_escapes_what_it_shows() -> None:
    for shown in (outcome(), outcome(fired=2, missing=1)):
        text = page(shown)
        assert not re.search(r"<script|<link|src=|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
        assert "<b>one died" not in text
        assert "<somewhere>" not in text
        assert "3/10" in text or "bounds nothing" in text
        assert text.count("Not fired") == len(shown.plan) - len(shown.fired)


def test_a_coordinator_that_has_not_loaded_its_offsets_yet_makes_no_dent_in_the_picture() -> None:
    watch = Watch("", "")
    for done in (0, 500, 0, 200, 500, 700):
        watch.note(1_000, done)
    assert [sample.done for sample in watch.samples] == [0, 500, 500, 700]


@pytest.mark.parametrize(
    ("highest", "top"),
    [(0, "1"), (3, "4"), (1_145, "2,000"), (1_677, "2,000"), (7_000, "8,000"), (9_000, "10k"), (896_000, "1,000k")],
)
def test_the_axes_end_at_round_numbers(highest: int, top: str) -> None:
    drawn = ET.fromstring(picture([Sample(0, highest, 0), Sample(1, highest, 0)], []))
    axis = [word.text for word in drawn.iter() if word.get("text-anchor") == "end"]
    assert axis[-1] == top


def test_the_picture_has_a_mark_for_each_fault_and_leaves_a_hole_where_there_are_no_samples() -> None:
    run = outcome()
    root = ET.fromstring(picture(run.samples, run.fired))
    name = "{http://www.w3.org/2000/svg}"
    assert len([g for g in root.iter(f"{name}g") if "mark" in (g.get("class") or "")]) == 14
    assert len(list(root.iter(f"{name}polyline"))) == 2
    away = [sample for sample in run.samples if not 10 < sample.at_s < 20]
    root = ET.fromstring(picture(away, run.fired))
    assert len([line for line in root.iter(f"{name}polyline") if line.get("class") == "lag"]) == 2
    ET.fromstring(picture([], []))
