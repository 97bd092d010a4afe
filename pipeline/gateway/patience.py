"""How long requests wait for the disk: one clock for all, since a timer each costs more than judging an event."""

import asyncio
from typing import Self

EVERY_S = 0.25


class Patience:
    """`with patience.wait(): …` raises TimeoutError in there after `timeout_s`, give or take EVERY_S."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._waits: set[_Wait] = set()

    def wait(self) -> "_Wait":
        """One that begins to wait now."""
        return _Wait(self._waits, self._timeout_s)

    def hurry(self, within_s: float) -> None:
        """Whoever waits now waits at most so much longer."""
        last = asyncio.get_running_loop().time() + within_s
        for wait in self._waits:
            wait.until = min(wait.until, last)

    async def watch(self) -> None:
        """The clock; for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(EVERY_S)
            now = loop.time()
            for wait in self._waits:
                if now >= wait.until and not wait.over:
                    wait.over = True
                    wait.task.cancel()


class _Wait:
    __slots__ = ("_cancelling", "_waits", "over", "task", "until")

    def __init__(self, waits: "set[_Wait]", timeout_s: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task, self.over = task, False
        self.until = asyncio.get_running_loop().time() + timeout_s
        self._waits, self._cancelling = waits, task.cancelling()

    def __enter__(self) -> Self:
        self._waits.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._waits.discard(self)
        if self.over and self.task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError
