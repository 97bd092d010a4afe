"""How long the event loop was kept from everything else: by a handler that computes, a huge record, a busy machine."""

import asyncio
import time

from prometheus_client import Histogram

EVERY_S = 0.1


async def measure_stalls(late: Histogram) -> None:
    """Ten times a second, note how many seconds later than asked for this task was called."""
    while True:
        asked_at = time.monotonic()
        await asyncio.sleep(EVERY_S)
        late.observe(max(time.monotonic() - asked_at - EVERY_S, 0.0))
