"""The clock by which a lease is judged: it goes on while the machine is suspended, as the broker's does."""

import time

if hasattr(time, "CLOCK_BOOTTIME"):

    def lease_now_s() -> float:
        """Seconds since the machine's start, those in suspension included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:

    def lease_now_s() -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()
