"""The last resort for a unit that doesn't end: say where it hangs, and end the process."""

import asyncio
import logging
import os
from typing import Any, NoReturn

log = logging.getLogger("hardparts.unit")

STATUS = 1


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
