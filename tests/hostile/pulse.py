"""Asks a worker's `/health/live` twenty times a second, in a process of its own, and notes the longest wait.

The page is answered by the worker's event loop, in about six turns of it: a hang shows, and how long it lasted.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Self

EVERY_S = 0.05
TIMEOUT_S = 60.0


class Pulse:
    """`async with Pulse(port) as pulse`: afterwards `longest_s`, `asked` and `failed` say what was seen."""

    def __init__(self, port: int) -> None:
        self._command = [sys.executable, "-m", "tests.hostile.pulse", str(port)]
        self.longest_s, self.asked, self.failed = 0.0, 0, 0

    async def __aenter__(self) -> Self:
        self._process = await asyncio.to_thread(self._start)
        return self

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        said, _ = await asyncio.to_thread(self._process.communicate, "stop\n", 2 * TIMEOUT_S)
        longest, asked, failed = said.split()
        self.longest_s, self.asked, self.failed = float(longest), int(asked), int(failed)


async def _watch(port: int) -> tuple[float, int, int]:
    """Until standard input says something or ends."""
    stop = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    longest, asked, failed = 0.0, 0, 0
    while not stop.done():
        began = time.monotonic()
        try:
            status = await asyncio.to_thread(_ask, port)
        except (OSError, HTTPException):
            status = 0
        longest, asked, failed = max(longest, time.monotonic() - began), asked + 1, failed + (status != 200)
        await asyncio.wait([stop], timeout=EVERY_S)
    return longest, asked, failed


def _ask(port: int) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status
    finally:
        connection.close()


if __name__ == "__main__":
    print(*asyncio.run(_watch(int(sys.argv[1]))))
