"""`python -m pipeline.demo.leash worker …`: the same command, but it never outlives who started it.

Standard input is a pipe from the demo. It ends when the demo ends, also by SIGKILL; then this process ends too.
"""

import os
import runpy
import signal
import sys
import threading

GRACE_S = 5.0


def hold(pipe: int) -> None:
    """Return at once; when `pipe` ends, stop this process: cleanly, and after GRACE_S by force."""

    def watch() -> None:
        while os.read(pipe, 64):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="leash").start()


if __name__ == "__main__":
    hold(sys.stdin.fileno())
    runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
