"""What a run says while it goes on: a bar on a terminal, a line for each fault in a pipe."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.chaos.outcome import Fired, Outcome


class Show:
    """`with Show() as show`: lines on standard output; the bar only where somebody looks."""

    def __init__(self, terminal: bool | None = None) -> None:
        self.terminal = sys.stdout.isatty() if terminal is None else terminal
        self._console = Console(highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=self._console, disable=not self.terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("starting", total=None)
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def says(self, text: str) -> None:
        """One line, with the time."""
        self._print(f"{time.monotonic() - self._began:6.1f} s  {text}")

    def begins(self, outcome: Outcome) -> None:
        """The schedule, before the first fault."""
        options = outcome.options
        self._print(f"seed {options.seed}: {options.command}")
        for fault in outcome.plan:
            self._print(f"  {fault}")
        self.counts(len(outcome.plan), "starting brokers and workers")

    def fired(self, fired: Fired) -> None:
        """A fault is over."""
        standing = f"written {fired.fed}, lag {fired.standing.lag}"
        self.says(f"{fired.fault.number:3} {fired.fault.name}: {fired.said} ({standing})")
        self.steps(f"written {fired.fed}")

    def counts(self, total: int, text: str) -> None:
        """How many steps the bar has."""
        self._bar.update(self._task, total=total, completed=0, description=text)

    def steps(self, text: str) -> None:
        """One step more."""
        self._bar.update(self._task, advance=1, description=text)

    def _print(self, text: str) -> None:
        if self.terminal:
            self._console.print(text, markup=False)
        else:
            print(text, flush=True)
