"""Stopping Kafka clients without being held up by them."""

import asyncio
from collections.abc import Coroutine
from typing import Any

STOP_WITHIN_S = 5.0


async def stopped(stopping: Coroutine[Any, Any, None]) -> None:
    """Wait for a client's `stop()`, at most STOP_WITHIN_S; how it ends is nobody's concern any more.

    As a task of its own: aiokafka's may end with a CancelledError that isn't ours.
    """
    task = asyncio.create_task(stopping)
    done, _ = await asyncio.wait({task}, timeout=STOP_WITHIN_S)
    if not done:
        task.cancel()
    elif not task.cancelled():
        task.exception()
