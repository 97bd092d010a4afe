"""The two versions of the product, and which of them a worker process runs."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.oracle.process import REPOSITORY, Worker

BEFORE = Path(__file__).with_name("BEFORE")
INSIDE = Path(__file__).with_name("inside")
CACHE = REPOSITORY / ".cache" / "upgrade"
PACKAGES = ("pipeline", "agents", "tables")
COMMAND_WITHIN_S = 300.0


class NoVersionBefore(RuntimeError):
    """The commit that BEFORE names can't be had here; the message says why."""


class CommandFailed(RuntimeError):
    """A command ended with another status than 0; the message has its end."""


@dataclass(frozen=True, slots=True)
class Version:
    """`directory` holds its packages pipeline, agents and tables."""

    name: str
    directory: Path

    def put_on(self, worker: Worker) -> Worker:
        """Make a worker that is not started yet run this version, whatever is installed in the environment."""
        worker.directory = self.directory
        worker.module = "told"
        worker._environment["PYTHONPATH"] = f"{self.directory}{os.pathsep}{INSIDE}"
        return worker

    def runs_in(self, worker: Worker) -> bool:
        """Whether the process of its last start said that it runs this version: all three packages."""
        said = [line for line in worker.log.read_text(errors="replace").splitlines() if line.startswith("code ")]
        return said[-1].split(" ")[1:] == [str(self.directory / package) for package in PACKAGES]


NEW = Version("new", REPOSITORY)


def version_before() -> Version:
    """The version of the commit in BEFORE, built once; raises NoVersionBefore."""
    commit = BEFORE.read_text().strip()
    directory = CACHE / commit
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        if not directory.exists():
            _build(commit, directory)
    return Version("old", directory)


def _build(commit: str, directory: Path) -> None:
    """Install the commit's wheel, without the embedded broker and without dependencies, into `directory`."""
    if shutil.which("git") is None:
        raise NoVersionBefore("git is not installed")
    with TemporaryDirectory(dir=CACHE) as temporary:
        sources, wheels, made = (Path(temporary) / name for name in ("sources", "wheels", "made"))
        sources.mkdir()
        archive = Path(temporary) / "sources.zip"
        try:
            _run("git", "-C", str(REPOSITORY), "archive", "-o", str(archive), commit)
        except CommandFailed as reason:
            raise NoVersionBefore(str(reason)) from reason
        shutil.unpack_archive(archive, sources)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
        offline = ("--no-index", "--no-deps")
        _run(
            *(*pip, "wheel", *offline, "--no-build-isolation", "-w", str(wheels), str(sources)),
            more={"HARDPARTS_SKIP_BROKER": "1"},
        )
        _run(*pip, "install", *offline, "--target", str(made), *map(str, wheels.glob("*.whl")))
        made.rename(directory)


def _run(*command: str, more: Mapping[str, str] | None = None) -> None:
    environment = {**os.environ, **(more or {})}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=COMMAND_WITHIN_S, check=False
    )
    if done.returncode:
        raise CommandFailed(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-2000:]}")
