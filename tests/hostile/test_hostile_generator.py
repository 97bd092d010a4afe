"""The generator: the same records for the same seed, of every kind, and the product judges each as the oracle does."""

from __future__ import annotations

from collections import Counter

import pytest

from agents import topics, user_events
from agents.app import app
from pipeline.core.decode import decode
from pipeline.core.outcome import Candidate, Rejected
from pipeline.core.record import StoredRecord
from tests.hostile.heavy import HEAVY, bombs, swarm
from tests.hostile.shapes import STRATEGIES, Shape
from tests.hostile.stream import hostile, is_hostile
from tests.oracle.generator import Made
from tests.oracle.records import USER_EVENTS

NUMBER = 8_000
SEED = 4


@pytest.fixture(scope="module")
def made() -> list[Made]:
    return list(hostile(NUMBER, SEED))


def judged(key: bytes | None, value: bytes | None, headers: object = ()) -> Candidate | Rejected:
    """What a worker's second step makes of it; never an exception."""
    record = StoredRecord(USER_EVENTS, 0, 0, 0, key, value, headers)  # type: ignore[arg-type]
    [decided] = decode([record], topics.user_events, app.contracts[USER_EVENTS], user_events.user_events.definition)
    assert isinstance(decided, Candidate | Rejected)
    return decided


def test_the_same_seed_gives_the_same_records_and_another_seed_others(made: list[Made]) -> None:
    again = list(hostile(NUMBER, SEED))
    assert again == made
    assert list(hostile(50, SEED + 1)) != list(hostile(50, SEED))


def test_as_many_are_hostile_as_were_asked_for_and_every_kind_is_among_them(made: list[Made]) -> None:
    kinds = Counter(one.kind for one in made if is_hostile(one))
    assert kinds.total() == NUMBER
    assert set(STRATEGIES) <= set(kinds)
    assert {make().kind for make in HEAVY} <= set(kinds)
    assert sum(count for kind, count in kinds.items() if kind.startswith("mutated")) > NUMBER / 3
    assert sum(not is_hostile(one) for one in made) >= NUMBER / 2


def test_the_product_refuses_what_the_oracle_refuses_and_nothing_else(made: list[Made]) -> None:
    differing = [
        one for one in made if isinstance(judged(one.key, one.value, one.headers), Rejected) != is_hostile(one)
    ]
    assert [(one.kind, one.key, (one.value or b"")[:300]) for one in differing] == []


@pytest.mark.parametrize("shape", [*bombs(), swarm()[0]], ids=lambda shape: shape.kind)
def test_what_compression_lets_through_is_refused(shape: Shape) -> None:
    assert isinstance(judged(shape.key, shape.value), Rejected)
    assert is_hostile(Made(USER_EVENTS, shape.key, shape.value, (), shape.kind))
