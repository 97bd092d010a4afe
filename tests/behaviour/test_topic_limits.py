"""What a topic's settings mean for what is written there: sizes, and how old a record may be."""

from __future__ import annotations

import pytest

from pipeline.core.event_time import DAY_MS
from pipeline.runtime.check import AGE_MS_FLOOR, age_ms_max, limits, too_young

FOR_EVER = str(2**63 - 1)
BEFORE = "message.timestamp.before.max.ms"
DIFFERENCE = "message.timestamp.difference.max.ms"


@pytest.mark.parametrize(
    ("config", "age_ms"),
    [
        ({}, DAY_MS),
        ({BEFORE: FOR_EVER, "retention.ms": "604800000", "cleanup.policy": "delete"}, DAY_MS),
        ({BEFORE: "600000"}, 300_000),
        ({DIFFERENCE: "600000"}, 300_000),
        ({BEFORE: FOR_EVER, DIFFERENCE: "600000"}, 300_000),
        ({BEFORE: "600000", DIFFERENCE: FOR_EVER}, 300_000),
        ({BEFORE: "600000", "message.timestamp.type": "LogAppendTime"}, DAY_MS),
        ({"retention.ms": "3600000", "cleanup.policy": "delete"}, 1_800_000),
        ({"retention.ms": "3600000", "cleanup.policy": "compact"}, DAY_MS),
        ({"retention.ms": "-1", "cleanup.policy": "delete"}, DAY_MS),
    ],
)
def test_an_output_is_at_most_half_as_old_as_its_topic_takes_and_keeps(config: dict[str, str], age_ms: int) -> None:
    assert age_ms_max(config) == age_ms


def test_a_topic_that_takes_only_the_present_is_refused_by_name() -> None:
    configs = {
        "fine": {BEFORE: str(AGE_MS_FLOOR)},
        "stamped": {BEFORE: "0", "message.timestamp.type": "LogAppendTime"},
        "tight": {BEFORE: "1000"},
        "old": {},
        "between": {BEFORE: FOR_EVER, DIFFERENCE: "2000"},
    }
    other, problem = too_young([*configs, "missing"], configs)
    assert other.message == f"topic between takes no record that is older than 2000 ms ({DIFFERENCE})"
    assert problem.topic == "tight"
    assert problem.message == f"topic tight takes no record that is older than 1000 ms ({BEFORE})"


def test_a_record_younger_than_every_topic_takes_needs_no_second_look() -> None:
    assert limits({}, []).age_ms_small == DAY_MS
    tight = limits({}, [], ages_ms={"a": 5_000, "b": 9_000})
    assert (tight.age_ms_small, tight.age_ms("a"), tight.age_ms("b"), tight.age_ms("c")) == (
        5_000,
        5_000,
        9_000,
        DAY_MS,
    )
