"""How long to wait before the next attempt: exponential with full jitter and a cap, no limit on attempts."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds. `jitter` maps an upper bound to a delay in [0, bound] (random.uniform in the shell)."""

    first_s: float = 0.1
    cap_s: float = 10.0

    def bound_s(self, attempt: int) -> float:
        """Upper bound of the delay after failed attempt number `attempt` (from 1)."""
        if attempt < 1:
            raise ValueError(f"attempts count from 1, not {attempt}")
        return min(self.cap_s, self.first_s * 2.0 ** min(attempt - 1, 30))

    def delay_s(self, attempt: int, jitter: Callable[[float, float], float]) -> float:
        """The delay itself, drawn by `jitter(0, bound)`."""
        return jitter(0.0, self.bound_s(attempt))
