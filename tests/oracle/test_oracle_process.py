"""The handle on worker processes: started, awaited, frozen, stopped; a real process, whatever the command does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.oracle.process import Worker, WorkerEnded

PROGRAM = """
import os, signal, sys, time
print("starting", sys.argv[1:], os.environ.get("HARDPARTS_BROKER"), os.environ.get("HARDPARTS_STRAY"))
{body}
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker whose `pipeline` is the program that the test writes."""
    monkeypatch.setenv("HARDPARTS_STRAY", "inherited")
    worker = Worker("one", tmp_path / "one.log", {"HARDPARTS_BROKER": "kafka://127.0.0.1:1"}, 6066)
    worker.directory = tmp_path
    return worker


def program(tmp_path: Path, body: str) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").touch()  # a package proper: else an installed `pipeline` goes first
    (tmp_path / "pipeline" / "__main__.py").write_text(PROGRAM.format(body=body))


def test_a_ready_worker_gets_its_settings_and_stops_on_sigterm(tmp_path: Path, worker: Worker) -> None:
    program(tmp_path, "signal.signal(signal.SIGTERM, lambda *a: sys.exit(0)); print('ready [0, 1]'); time.sleep(60)")
    with worker:
        worker.wait_ready(20)
        assert worker.stop(10) == 0
    started = "starting ['worker', '--instance', 'one', '--web-port', '6066'] kafka://127.0.0.1:1 None"
    assert worker.log.read_text().splitlines() == [started, "ready [0, 1]"]


def test_a_frozen_worker_lives_and_a_killed_one_starts_again(tmp_path: Path, worker: Worker) -> None:
    program(tmp_path, "print('ready'); time.sleep(60)")
    with worker:
        worker.wait_ready(20).freeze()
        assert worker.alive, "a stopped process has not ended"
        state = Path(f"/proc/{worker.process.pid}/stat")
        if sys.platform == "linux":
            assert state.read_text().rsplit(")", 1)[1].split()[0] == "T"
        worker.thaw()
        worker.kill()
        worker.start().wait_ready(20)
    assert worker.process.returncode == -9
    assert worker.log.read_text().count("ready") == 2


def test_a_worker_that_ends_or_hangs_is_reported_with_its_log(tmp_path: Path, worker: Worker) -> None:
    program(tmp_path, "if os.path.exists('hang'): time.sleep(60)\nsys.exit('no broker')")
    with pytest.raises(WorkerEnded, match=r"exited 1:(?s:.)*no broker"), worker:
        worker.wait_ready(20)
    (tmp_path / "hang").touch()
    with pytest.raises(TimeoutError, match="not ready within"), worker:
        worker.wait_ready(1)
