"""Real worker processes, started by the command that users run, and the signals that a test sends to them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

REPOSITORY = Path(__file__).resolve().parents[2]
INHERITED_NOT = "HARDPARTS_"


class WorkerEnded(RuntimeError):
    """The process ended while something was expected of it; the message holds the end of its log."""


class Worker:
    """`python -m pipeline worker --instance … --web-port …`; a context manager that kills what is left at the end.

    environment: `HARDPARTS_…` settings; none is inherited from the test run. The log file is appended to over restarts.
    before: what stands before the command, to start the process with fewer rights or another clock.
    """

    before: Sequence[str] = ()
    module = "pipeline"
    """What `python -m` runs: a test may start the product through a module of its own."""
    directory = REPOSITORY
    """Where the process runs, and where `python -m` looks for modules first."""

    def __init__(self, instance: str, log: Path, environment: Mapping[str, str], web_port: int | None = None) -> None:
        self.instance = instance
        self.log = log
        self.web_port = web_port or free_port()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(INHERITED_NOT)}
        self._environment = {**inherited, "PYTHONUNBUFFERED": "1", **environment}
        self._process: subprocess.Popen[str] | None = None
        self._ready = threading.Event()
        self._reader: threading.Thread | None = None

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process of the last start."""
        if self._process is None:
            raise RuntimeError(f"worker {self.instance} was never started")
        return self._process

    @property
    def alive(self) -> bool:
        """Whether the process has not ended (a frozen one is alive)."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.alive:
            self.kill()

    def start(self) -> Self:
        """Start the process; returns at once."""
        if self.alive:
            raise RuntimeError(f"worker {self.instance} is running")
        command = [*self.before, sys.executable, "-m", self.module, "worker"]
        command += ["--instance", self.instance, "--web-port", str(self.web_port)]
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            command,
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process, self._ready), daemon=True)
        self._reader.start()
        return self

    def wait_ready(self, timeout_s: float = 60) -> Self:
        """Wait for the line that begins with `ready`; raises WorkerEnded or TimeoutError with the end of the log."""
        deadline = time.monotonic() + timeout_s
        while not self._ready.wait(0.05):
            if not self.alive:
                self._gone(10)  # and all that it said is in the log
                raise WorkerEnded(f"{self.instance} exited {self.process.returncode}:\n{self.end_of_log()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.instance} not ready within {timeout_s} s:\n{self.end_of_log()}")
        return self

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self._gone(10)

    def freeze(self) -> None:
        """SIGSTOP; returns when it has stopped (a signal is delivered some time after it is sent)."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self, grace_s: float = 30) -> int:
        """SIGTERM; the exit code. Raises TimeoutError, and kills, when it is still there after `grace_s`."""
        self.process.terminate()
        try:
            return self._gone(grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"{self.instance} ignored SIGTERM for {grace_s} s:\n{self.end_of_log()}") from None

    def end_of_log(self, characters: int = 4000) -> str:
        """What it printed last."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else "(nothing)"

    def _gone(self, timeout_s: float) -> int:
        code = self.process.wait(timeout_s)
        if self._reader is not None:
            self._reader.join(timeout_s)
        return code

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        """Copy the output to the log, line by line, to its end; a pipe that nobody reads would block the worker."""
        assert process.stdout is not None
        with self.log.open("a", encoding="utf-8") as log:
            for line in process.stdout:
                log.write(line)
                log.flush()
                if line.lstrip().lower().startswith("ready"):
                    ready.set()


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
