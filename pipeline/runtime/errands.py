"""Work that a unit does between two batches, in its own task: nobody else may write its state."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from pipeline.runtime.engine_errors import ENGINE_ERRORS

log = logging.getLogger("hardparts.errands")

Errand = Callable[[], Awaitable[None]]


class Errands:
    """The errands of one unit, done in the order in which they were asked for. wake: set when there is one."""

    def __init__(self, wake: asyncio.Event) -> None:
        self._wake = wake
        self._waiting: deque[tuple[Errand, asyncio.Future[None]]] = deque()
        self._closed = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def ask(self, errand: Errand) -> "asyncio.Future[None]":
        """Have it done; the future is cancelled when the unit ends before that, and has what the errand raised."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed:
            done.cancel()
            return done
        done.add_done_callback(_look_at)
        self._waiting.append((errand, done))
        self._wake.set()
        return done

    async def run(self) -> None:
        """Do the next one. Raises only what the unit must act on: its producer or its store is of no use any more."""
        errand, done = self._waiting.popleft()
        if done.cancelled():  # nobody wants it any more
            return
        try:
            await errand()
        except Exception as error:
            _settle(done, error)
            if isinstance(error, ENGINE_ERRORS):
                raise
        except BaseException:
            done.cancel()
            raise
        else:
            _settle(done, None)

    def drop(self) -> None:
        """The unit ends: those that wait aren't done, and no more are taken."""
        self._closed = True
        while self._waiting:
            self._waiting.popleft()[1].cancel()


def _settle(done: "asyncio.Future[None]", error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def _look_at(done: "asyncio.Future[None]") -> None:
    """Log what went wrong: whoever asked may not wait for it."""
    if not done.cancelled() and (error := done.exception()) is not None:
        log.warning("between two batches: %s: %s", type(error).__name__, error)
