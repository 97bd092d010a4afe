"""How large the long tests and runs are, all in one place: short by default and in CI, full in `make soak`.

A size that belongs to a test is an environment variable; one that belongs to a program is a flag of it.
HARDPARTS_TEST_SEED replays a red run.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

SEED = "HARDPARTS_TEST_SEED"


@dataclass(frozen=True, slots=True)
class Size:
    """given_by: an environment variable or a flag. of: what it is the number of."""

    given_by: str
    short: int
    full: int
    of: str

    def __call__(self) -> int:
        """The size of this run of a test."""
        assert self.given_by.startswith("HARDPARTS_TEST_"), f"{self.given_by} is a flag"
        return int(os.environ.get(self.given_by) or self.short)


EVENTS = Size("HARDPARTS_TEST_EVENTS", 20_000, 200_000, "events")
ROUNDS = Size("HARDPARTS_TEST_ROUNDS", 2, 10, "rounds of a repeated fault")
HOSTILE = Size("HARDPARTS_TEST_HOSTILE", 3_000, 100_000, "hostile records")
PRODUCER_MESSAGES = Size("HARDPARTS_TEST_PRODUCER_MESSAGES", 12_000, 200_000, "messages")
PRODUCER_RATE = Size("HARDPARTS_TEST_PRODUCER_RATE", 1_500, 5_000, "a second")
OUTBOX_ROWS = Size("HARDPARTS_TEST_OUTBOX_ROWS", 8_000, 100_000, "rows")
OUTBOX_KILLS = Size("HARDPARTS_TEST_OUTBOX_KILLS", 2, 5, "SIGKILLs")

CHAOS_EVENTS = Size("--events", 6_000, 1_000_000, "events")
CHAOS_KILLS = Size("--kills", 2, 50, "SIGKILLs of workers")
CHAOS_BROKER_KILLS = Size("--broker-kills", 1, 5, "SIGKILLs of brokers")
CHAOS_BROKERS = Size("--brokers", 1, 3, "brokers")
GATEWAY_RATE = Size("--rate", 200, 1_000, "requests a second")
GATEWAY_SECONDS = Size("--seconds", 6, 600, "s")


def events() -> int:
    """Events of the kill test."""
    return EVENTS()


def rounds() -> int:
    """Rounds of the tests that repeat a fault."""
    return ROUNDS()


def seed() -> int:
    """The seed of this test's input and schedule; printed, so that a red run can be replayed."""
    chosen = int(os.environ.get(SEED) or random.SystemRandom().randrange(10**6))
    print(f"seed {chosen}: {SEED}={chosen} replays it")
    return chosen
