"""Only status 2 and a message with both formats excuse a worker of the version before."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracle.process import Worker, WorkerEnded
from tests.upgrade.refusal import refuses_by_name

NAMED = "/data/one/tables/user-events/0: state format 2, this version reads 1"
BEGINNING = "code /old/pipeline /old/agents /old/tables"


@pytest.mark.parametrize(
    ("status", "said", "refused"),
    [
        (2, [BEGINNING, NAMED], True),
        (2, [BEGINNING, "changelog app-user-events-changelog: format 3, this version reads up to 2"], True),
        (1, [BEGINNING, NAMED], False),
        (0, [BEGINNING, NAMED], False),
        (2, [BEGINNING, "/data/one: unknown state format"], False),
        (2, [BEGINNING, "state format 1, this version reads 1"], False),
        (2, [BEGINNING, NAMED, BEGINNING, "topics are missing"], False),
    ],
)
def test_a_refusal_is_status_two_and_both_formats(tmp_path: Path, status: int, said: list[str], refused: bool) -> None:
    (tmp_path / "ending.py").write_text(f"print(*{said!r}, sep='\\n')\nraise SystemExit({status})\n")
    worker = Worker("one", tmp_path / "one.log", {})
    worker.directory, worker.module = tmp_path, "ending"
    with pytest.raises(WorkerEnded):
        worker.start().wait_ready(30)
    assert refuses_by_name(worker) is refused
