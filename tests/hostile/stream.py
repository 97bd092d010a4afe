"""Hostile records without end from one seed: some thousand shapes drawn by Hypothesis, and mutations of them.

Hypothesis draws about a thousand shapes a second, so the rest are made by a seeded Random that mutates drawn ones:
bits flipped, slices cut, doubled or swapped, tokens put in, keys and headers exchanged. The oracle's own rules say
which of them are hostile; what is still a good event is sent too, and must be applied.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import lru_cache
from random import Random

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.hostile.heavy import HEAVY
from tests.hostile.shapes import MSG_ID, STRATEGIES, USER, Shape, event, shapes
from tests.oracle.generator import Made
from tests.oracle.records import USER_EVENTS, Record
from tests.oracle.validity import Invalid, as_event

DRAWN_MAX = 3_000
HEAVY_EVERY = 500
USERS = 40
TOKENS = (
    b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\\u0000", b"\\ud83d", b"\x00", b"\xff", b"\r\n", b"\x1b[31m",
    b"NaN", b"1e999", b"9" * 30, b"1.0", b"-0", b"null", b'"msg_id":', b'"user_id":8',
    b"\xe2\x80\xae", b"\xed\xa0\xbd", b"/*", b"#",
)  # fmt: skip


def hostile(number: int, chosen_seed: int) -> Iterator[Made]:
    """Records until `number` of them have been hostile; after every other one comes a good event."""
    rng, made = Random(chosen_seed), 0
    drawn = draw(min(number, DRAWN_MAX), chosen_seed)
    unsent = iter(drawn)
    while made < number:
        if made % HEAVY_EVERY == HEAVY_EVERY - 1:
            shape = HEAVY[made // HEAVY_EVERY % len(HEAVY)]()
        else:
            shape = next(unsent, None) or mutated(rng, drawn)
        one = _sent(rng, shape)
        made += is_hostile(one)
        yield one
        if made % 2:
            yield good(rng)


@lru_cache(maxsize=4)
def draw(number: int, chosen_seed: int) -> tuple[Shape, ...]:
    """So many shapes from Hypothesis, the same ones for the same seed."""
    found: list[Shape] = []

    @seed(chosen_seed)
    @settings(
        max_examples=number, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(shapes())
    def collect(shape: Shape) -> None:
        found.append(shape)

    collect()
    return tuple(found[:number])


def mutated(rng: Random, drawn: tuple[Shape, ...]) -> Shape:
    """One of them, changed in one to four places; half the time it begins as a good event."""
    first, second = rng.choice(drawn), rng.choice(drawn)
    value = event().encode() if rng.random() < 0.5 else first.value or b""
    for _ in range(rng.randint(1, 4)):
        value = _change(rng, value, second.value or b"")
    key = first.key if rng.random() < 0.9 else second.key
    return Shape(f"mutated {first.kind}", key, value, second.headers if rng.random() < 0.2 else first.headers)


def _change(rng: Random, value: bytes, other: bytes) -> bytes:
    at, end = sorted((rng.randint(0, len(value)), rng.randint(0, len(value))))
    match rng.randrange(6):
        case 0 if value:
            at = min(at, len(value) - 1)
            return value[:at] + bytes([value[at] ^ 1 << rng.randrange(8)]) + value[at + 1 :]
        case 1:
            return value[:at] + value[end:]
        case 2:
            return value[:end] + value[at:end] + value[end:]
        case 3:
            return value[:at] + rng.choice(TOKENS) + value[at:]
        case 4:
            return value[:at] + other[: rng.randint(0, len(other))]
    return value[:at] + rng.choice(TOKENS) + value[end:]


def good(rng: Random, user: str | None = None) -> Made:
    """A comment of `user`, or of one of a few users."""
    user = user or str(rng.randrange(USERS))
    return _sent(rng, Shape("good", user.encode(), event(user=user).encode()))


def is_hostile(made: Made) -> bool:
    """Whether it must become an error record, by the oracle's rules."""
    try:
        as_event(Record(made.topic, 0, 0, made.key, made.value, made.headers))
    except Invalid:
        return True
    return False


def _sent(rng: Random, shape: Shape) -> Made:
    """The shape with a msg_id of its own, so that what is good after all is nobody's duplicate."""
    fresh = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    value = None if shape.value is None else shape.value.replace(MSG_ID.encode(), fresh.encode())
    return Made(USER_EVENTS, shape.key, value, shape.headers, shape.kind)


__all__ = ["STRATEGIES", "USER", "draw", "good", "hostile", "is_hostile"]
