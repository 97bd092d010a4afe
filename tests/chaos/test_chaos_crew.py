"""The crew notices a worker that ends without having been told to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.crew import Crew
from tests.oracle.process import Worker


def ended(directory: Path, program: str) -> Worker:
    """A worker whose process ran this program."""
    worker = Worker("one", directory / "one.log", {})
    worker._process = subprocess.Popen([sys.executable, "-c", program], text=True)
    worker._process.wait(30)
    return worker


@pytest.mark.parametrize("program", ["", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
def test_one_that_was_stopped_or_killed_is_down(tmp_path: Path, program: str) -> None:
    crew = Crew(None)  # type: ignore[arg-type]
    crew._order = [ended(tmp_path, program)]
    assert crew.alive == []


def test_one_that_gave_up_makes_the_run_red(tmp_path: Path) -> None:
    crew = Crew(None)  # type: ignore[arg-type]
    crew._order = [ended(tmp_path, "raise SystemExit(1)")]
    with pytest.raises(AssertionError, match="one ended by itself, with 1"):
        _ = crew.alive
