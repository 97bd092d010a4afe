"""Faults that a test plans: which call to a dependency fails, and before which step the process dies.

Nothing is random: which call fails is part of the test's input, so the same input fails in the same way (P2).
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, get_args

from pipeline.core.errors import Blocking

Dependency = Literal["broker", "database", "outside"]
Failure = Literal["refused", "reply lost"]
Step = Literal["decode", "deduplicate", "handle", "publish", "record", "apply", "complete", "commit"]
STEPS: tuple[Step, ...] = get_args(Step)


class Crashed(BaseException):
    """The process died here. Not an Exception: nothing on the path may catch it."""


class Failures:
    """The planned failures of one kit, each call counted from 1 from the moment at which it is planned."""

    def __init__(self) -> None:
        self._planned: dict[Dependency, dict[int, Failure]] = {}
        self._made: dict[Dependency, int] = {}
        self._crash: tuple[str, int] | None = None

    def plan(self, dependency: Dependency, calls: Iterable[int], failure: Failure) -> None:
        """Let these calls fail, counted from now."""
        made = self._made.setdefault(dependency, 0)
        for call in calls:
            if call < 1:
                raise ValueError(f"calls count from 1, not {call}")
            self._planned.setdefault(dependency, {})[made + call] = failure

    def next_call(self, dependency: Dependency) -> Failure | None:
        """Count one more call; how it fails, if it does."""
        self._made[dependency] = made = self._made.get(dependency, 0) + 1
        return self._planned.get(dependency, {}).get(made)

    def made(self, dependency: Dependency) -> int:
        """How many calls there were."""
        return self._made.get(dependency, 0)

    def guard(self, dependency: Dependency, act: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """`act`, which raises Blocking when this call is planned to fail."""

        async def guarded() -> None:
            failure = self.next_call(dependency)
            if failure == "refused":
                raise Blocking("fault injected: refused", dependency)
            await act()
            if failure == "reply lost":
                raise Blocking("fault injected: reply lost", dependency)

        return guarded

    def plan_crash(self, place: str, times: int) -> None:
        """Die when `place` is passed for the `times`-th time from now."""
        if times < 1:
            raise ValueError(f"times count from 1, not {times}")
        self._crash = place, times

    def reach(self, place: str) -> None:
        """`place` is passed: raises Crashed when that is planned."""
        if self._crash is None or self._crash[0] != place:
            return
        times = self._crash[1] - 1
        self._crash = (place, times) if times else None
        if not times:
            raise Crashed(place)

    @property
    def crash_pending(self) -> str | None:
        """Where the process will die, if that is planned and has not happened."""
        return None if self._crash is None else self._crash[0]
