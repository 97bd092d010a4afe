"""The machine that a run ran on: cores, and how busy it was."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Self

EVERY_S = 5.0


class Load:
    """`with Load() as load`: the load average of the last minute, before the block and while it ran."""

    def __init__(self) -> None:
        self.before = self.least = self.most = os.getloadavg()[0]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(EVERY_S):
            now = os.getloadavg()[0]
            self.least, self.most = min(self.least, now), max(self.most, now)

    def __str__(self) -> str:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return f"{cores} cores, load {self.before:.1f} before, {self.least:.1f} to {self.most:.1f} during"
