"""How large the long tests are: small by default, full size by environment variables.

| variable                 | default | full size | what it sets                                   |
|--------------------------|---------|-----------|------------------------------------------------|
| HARDPARTS_TEST_EVENTS    | 20000   | 200000    | events of the kill test                        |
| HARDPARTS_TEST_ROUNDS    | 2       | 10        | rounds of freezing, joining, empty-disk starts |
| HARDPARTS_TEST_SEED      | random  |           | replays a red run                              |
"""

from __future__ import annotations

import os
import random


def events() -> int:
    """Events of the kill test."""
    return int(os.environ.get("HARDPARTS_TEST_EVENTS", "20000"))


def rounds() -> int:
    """Rounds of the tests that repeat a fault."""
    return int(os.environ.get("HARDPARTS_TEST_ROUNDS", "2"))


def seed() -> int:
    """The seed of this test's input and schedule; printed, so that a red run can be replayed."""
    chosen = int(os.environ.get("HARDPARTS_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"seed {chosen}: HARDPARTS_TEST_SEED={chosen} replays it")
    return chosen
