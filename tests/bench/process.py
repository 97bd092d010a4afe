"""A peer's process: started with its own environment and log, measured through /proc, stopped for certain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PROJECT_ROOT = Path(__file__).resolve().parents[2]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds (user and system) used so far and peak resident memory in bytes, children included."""

    cpu_s: float
    rss_peak_bytes: int


class PeerProcess:
    """One Python process in a session of its own. Use as a context manager: leaving it stops the process."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Run `python <arguments>` from the project's root; its output goes to the file `log`."""
        self.arguments = [sys.executable, *arguments]
        self.environment = {**os.environ, **environment, "PYTHONPATH": str(PROJECT_ROOT), "PYTHONUNBUFFERED": "1"}
        self.log = log

    def __enter__(self) -> Self:
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                self.arguments,
                env=self.environment,
                cwd=PROJECT_ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def check_running(self) -> None:
        """Raise RuntimeError with the end of the log if the process has ended."""
        code = self.process.poll()
        if code is not None:
            raise RuntimeError(f"{' '.join(self.arguments[1:])} ended with {code}:\n{self.log_tail()}")

    def log_tail(self, lines: int = 25) -> str:
        """Last lines of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def usage(self) -> Usage:
        """What the process and its living and awaited children have used."""
        cpu_ticks, rss_peak_kib = 0, 0
        for pid in _tree(self.process.pid):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                status = Path(f"/proc/{pid}/status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # a child that ended meanwhile: its parent's awaited time has it
            cpu_ticks += sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
            rss_peak_kib += next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
        return Usage(cpu_ticks / TICKS_PER_S, rss_peak_kib * 1024)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield from _tree(int(child))
