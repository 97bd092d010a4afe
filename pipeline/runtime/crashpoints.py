"""Named points of a record's path at which a chaos run, and only a chaos run, kills the process or raises.

`HARDPARTS_CRASH_AT=after-outputs:3` sends SIGKILL to the worker when it passes `after-outputs` for the third time.
"""

import os
import signal
from collections.abc import Callable

POINTS = (
    "after-claim", "after-outputs", "after-changelog", "after-rocksdb", "after-rows", "in-recovery", "in-rebalance",
    "while-blocked",
)  # fmt: skip


class CrashPoints:
    """Counts down the armed point, then calls `strike`; with nothing armed, `reach` does nothing."""

    def __init__(self, point: str = "", after: int = 1, strike: Callable[[str], None] | None = None) -> None:
        if point and point not in POINTS:
            raise ValueError(f"unknown crash point {point!r}: one of {', '.join(POINTS)}")
        self._point = point
        self._left = after
        self._strike = strike or _kill

    @classmethod
    def armed(cls) -> "CrashPoints":
        """From the environment; unarmed without it."""
        point, _, after = os.environ.get("HARDPARTS_CRASH_AT", "").partition(":")
        return cls(point, int(after or 1))

    def reach(self, point: str) -> None:
        """Called on the record's path."""
        if self._point != point:
            return
        self._left -= 1
        if self._left == 0:
            self._strike(point)


def _kill(_point: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
