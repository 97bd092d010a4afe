"""One run from end to end. What the others are made of runs in CI by itself, at a short size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kafka.jars import REPOSITORY

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


def test_the_gateways_run_is_right_at_its_short_size(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.soak", "gateway", "--short"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "=== gateway: right" in ended.stdout
    assert "accepted, 0 lost" in ended.stdout
