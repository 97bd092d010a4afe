"""The last resort for a unit that doesn't end: say where it hangs, and end the process."""

import asyncio
import logging
import os
from typing import Any, NoReturn

from pipeline.closing import ended

log = logging.getLogger("hardparts.unit")

STATUS = 1
CANCEL_AGAIN_S = 3.0
"""Longer than a takeover that is under way needs to close its clients: a second cancel would leave them open."""
ENDS_WITHIN_S = 10.0
"""From the first cancel. Then a handler swallows them all, and the group waits for this worker."""


async def ended_or_give_up(task: asyncio.Task[Any], unit: str) -> None:
    """Cancel the task of a unit until it ends; one that never does ends the process."""
    if not await ended(task, again_s=CANCEL_AGAIN_S, within_s=ENDS_WITHIN_S):
        give_up(unit, ENDS_WITHIN_S)


def give_up(unit: str, after_s: float) -> NoReturn:
    """End this process at once. What it hasn't recorded is handled again; what it sends later nobody takes.

    Exceptions don't help: whoever swallows every cancel holds up each way of stopping that waits for it.
    """
    try:
        hanging = [task for task in asyncio.all_tasks() if task.get_name() == unit]
        log.critical(
            "%s has been cancelled for %.0f s and doesn't end, so this process does. A handler that catches "
            "everything, as a bare `except:` around a loop of retries, must raise CancelledError again. It is at: %s",
            unit,
            after_s,
            "; ".join(" > ".join(places(task)) for task in hanging),
        )
        logging.shutdown()
    finally:
        os._exit(STATUS)


def places(task: asyncio.Task[Any]) -> list[str]:
    """Where a suspended task stands, the innermost last. `Task.get_stack` has only the outermost."""
    found: list[str] = []
    inner: Any = task.get_coro()
    while inner is not None:
        frame = _first(inner, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
        inner = _first(inner, "cr_await", "gi_yieldfrom", "ag_await")
    return found


def _first(of: object, *names: str) -> Any:
    return next((found for name in names if (found := getattr(of, name, None)) is not None), None)
