"""SIGTERM, SIGINT and SIGHUP of a process that runs until it is stopped: one handler from its start to its end.

A handler that belongs to an event loop goes away with its loop, and a signal that comes between two of them is lost.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

STOPPING = (
    (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) if sys.platform != "win32" else (signal.SIGTERM, signal.SIGINT)
)


class StopSignals:
    """`stop_signals.handle()` first thing; then `then` says what a signal does from now on.

    Until `then` has named something, a signal ends the process at once with status 0: nothing has begun yet.
    """

    def __init__(self) -> None:
        self.asked = False
        self._handled = False
        self._then: Callable[[], object] | None = None

    def handle(self) -> None:
        """Handle them from now on, in this process. Only in the main thread; a second call does nothing.

        A SIGHUP that is ignored (nohup) stays ignored.
        """
        if self._handled:
            return
        self._handled = True
        for number in STOPPING:
            if number in (signal.SIGTERM, signal.SIGINT) or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._arrived)

    def then(self, act: Callable[[], object] | None) -> None:
        """A signal calls `act` from now on, between any two instructions of the main thread: use call_soon_threadsafe.

        One that has come before calls it now. None: it ends the process at once again, as long as none has come.
        """
        self._then = act
        if self.asked and act is not None:
            act()

    def _arrived(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if self._then is None:
            os._exit(0)  # an exception might be swallowed by whatever is being imported
        with suppress(RuntimeError):  # the loop is closed: the process is ending
            self._then()


stop_signals = StopSignals()
"""Those of this process."""
