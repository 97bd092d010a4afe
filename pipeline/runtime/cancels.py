"""Cancels that an agent's function asks of the task it runs in: its own affair, which must not end the unit.

A handler may cancel its own task, and libraries do that for a timeout without taking it back.
"""

import asyncio
from typing import Any


async def delivered(task: asyncio.Task[Any]) -> None:
    """Raise the cancel that the current task is still to get, if there is one, and forget those that it has had."""
    if not task.cancelling():
        return
    try:
        await asyncio.sleep(0)
    finally:
        while task.cancelling():
            task.uncancel()


async def forgotten(task: asyncio.Task[Any], before: int) -> None:
    """Take back the cancels that the current task has got since it had `before`: code that never awaits can't be
    cancelled.
    """
    while task.cancelling() > before:
        task.uncancel()
    try:
        await asyncio.sleep(0)  # before Python 3.13 it comes nevertheless
    except asyncio.CancelledError:
        if task.cancelling() > before:  # somebody else's, meanwhile
            raise
