"""Faust's own commands on our application, as a Faust user would type them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.commandline import ROOT
from tests.behaviour.place import Place
from tests.kafka.waiting import until
from tests.oracle.records import partition_of

AGENTS = ["user-events", "notification-sender", "read-model"]
FAUST = [sys.executable, "-m", "faust", "-A", "agents.app"]
EVENT = {
    "msg_id": "8700635f-1802-417e-89e7-595ad3600104",
    "type": "comment.created",
    "data": {"user_id": 7, "msg": "hello"},
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path, agents=AGENTS) as place:
        yield place


@pytest.mark.parametrize("command", ["agents", "tables"])
def test_faust_lists_our_agents_and_their_tables(command: str, tmp_path: Path) -> None:
    ended = subprocess.run([*FAUST, command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in ended.stdout.splitlines() if "|" in line]
    shown = {row[0].lstrip("@"): row[1:] for row in rows[1:]}
    assert shown.keys() == set(AGENTS)
    if command == "agents":
        assert shown["user-events"] == [
            "user-events,team-events",
            "writes comment-counts, messages, notifications",
        ]
        assert shown["read-model"] == ["comment-counts,messages", "writes no topic"]


async def test_faust_worker_becomes_ready_processes_an_event_and_stops(place: Place, tmp_path: Path) -> None:
    said = tmp_path / "faust.log"
    with said.open("w") as log:  # no data directory yet: a fresh machine
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [*FAUST, "worker", "--loglevel", "info"],
            cwd=ROOT, env=place.cli.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        await until(lambda: "ready partitions=0,1" in said.read_text() or process.poll(), 60, "ready")
        assert process.poll() is None, said.read_text()
        partition = partition_of(b"7", 2)
        await place.send("user-events", [(b"7", json.dumps(EVENT).encode())], partition)
        await place.committed_to(1, "user-events", partition)
        (counted,) = (await place.log("comment-counts"))[partition]
        assert json.loads(counted.value or b"")["data"] == {"user_id": 7, "count": 1}
        process.terminate()
        assert process.wait(20) == 0, said.read_text()
    finally:
        process.kill()
        process.wait()
