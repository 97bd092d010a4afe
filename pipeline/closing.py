"""Ending tasks, and aiokafka's clients, without being held up, or ended, by them."""

import asyncio
import contextlib
import math
import time
from collections.abc import Coroutine
from typing import Any

from aiokafka import AIOKafkaProducer

STOP_WITHIN_S = 5.0
CANCELS_MIN = 3
CANCEL_AGAIN_S = 2.0
"""Longer than what a cancelled task has to put in order takes as a rule, and short enough for who waits."""


async def ended(*tasks: asyncio.Future[Any], again_s: float = CANCEL_AGAIN_S, within_s: float = math.inf) -> bool:
    """Cancel them, and wait until each has ended; whether each has. Raises nothing of theirs.

    One cancel isn't enough: a dependency may swallow it, as `asyncio.wait_for` does before Python 3.12 when what it
    waits for is done in the same moment. again_s: how long to wait before the next one. within_s: then, and after
    CANCELS_MIN of them, it gives up: a loop that was held up itself has let nobody end. Who waits here and is cancelled
    meanwhile still waits: what the tasks use may be closed afterwards.
    """
    waiting, cancelled = {task for task in tasks if not task.done()}, None
    deadline, asked = time.monotonic() + within_s, 0
    while waiting and (asked < CANCELS_MIN or time.monotonic() < deadline):
        asked += 1
        for task in waiting:
            task.cancel()
        try:
            _, waiting = await asyncio.wait(waiting, timeout=again_s)
        except asyncio.CancelledError as error:
            cancelled, waiting = error, {task for task in waiting if not task.done()}
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # looked at: nobody else will
    if waiting:
        return False
    if cancelled is not None:
        raise cancelled
    return True


async def stopped(stopping: Coroutine[Any, Any, None], timeout_s: float = STOP_WITHIN_S) -> bool:
    """Wait for a client's `stop()` or `close()`, at most `timeout_s`; whether it came to its end. Raises nothing of it.

    As a task of its own: without a broker, aiokafka's may end in a CancelledError that would end the caller unheard.
    """
    task = asyncio.ensure_future(stopping)
    _, late = await asyncio.wait([task], timeout=timeout_s)
    if late:
        task.cancel()
        return False
    return not task.cancelled() and task.exception() is None


async def abandoned(producer: AIOKafkaProducer, timeout_s: float) -> None:
    """Stop sending and close the sockets now, without aiokafka's wait for what can't be sent.

    What was in flight may or may not have been written.
    """
    if producer._closed:
        return
    producer._closed = True
    sender = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
    with contextlib.suppress(Exception):
        await asyncio.wait_for(producer.client.close(), timeout_s)
    if sender is not None:
        await asyncio.wait([sender], timeout=timeout_s)
