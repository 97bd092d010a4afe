"""The process itself: standard files that are closed, signals at any moment of its start, open files."""

import asyncio
import json
import resource
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.closing import ended
from pipeline.runtime import descriptors
from tests.behaviour.commandline import ROOT
from tests.behaviour.place import Place
from tests.kafka.waiting import until
from tests.oracle.process import free_port

ENDS_WITHIN_S = 15.0
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
CLOSED = ("bash", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "closed")
COMMANDS = {
    "worker": ("worker", "--loglevel", "info"),
    "gateway": ("gateway", "--port", "0", "--loglevel", "info"),
    "outbox": ("outbox", "--web-port", "0", "--loglevel", "info"),
}
FIRST_IMPORT = {"worker": "faust", "gateway": "uvloop", "outbox": "aiohttp"}
"""Of each command, once it handles signals."""


@pytest.fixture(autouse=True)
def _hangup_is_not_ignored() -> Iterator[None]:
    """By the processes started here, also where these tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("process")
    file = directory / "outbox.sqlite3"
    with Place(directory, agents=["user-events"], outbox_url=f"sqlite:///{file}") as place:
        sqlite3.connect(file).executescript(place.cli("outbox", "ddl").fine().out)
        yield place


def start(place: Place, command: tuple[str, ...], *before: str, **more: Any) -> subprocess.Popen[str]:
    """With `-X importtime`, which says each import: how far a start has come can be told by the number of lines."""
    return subprocess.Popen(
        [*before, sys.executable, "-X", "importtime", "-m", "pipeline", *command],
        cwd=ROOT, env=place.cli.environment, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more,
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> str:
    """What it says until it has ended, which must be soon and with 0."""
    try:
        said, _ = process.communicate(timeout=ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        pytest.fail(f"still there {ENDS_WITHIN_S:.0f} s after the signal:\n{said[-3000:]}")
    assert process.returncode == 0, said[-3000:]
    return said


def lines_until_ready(process: subprocess.Popen[str]) -> list[str]:
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if line.startswith("ready "):
            return lines
    raise AssertionError("".join(lines[-30:]))


@pytest.mark.parametrize(("name", "imports", "after"), [
    pytest.param("worker", 3, 5, marks=pytest.mark.slow), ("gateway", 3, 1), ("outbox", 2, 1),
])  # fmt: skip
def test_a_signal_at_any_moment_of_the_start_ends_it_with_0(place: Place, name: str, imports: int, after: int) -> None:
    """At so many moments while it imports, and so many between the last import and `ready`.

    Before its own code runs, for some 60 ms, the interpreter ends by the signal.
    """
    command = COMMANDS[name]
    process = start(place, command)
    lines = lines_until_ready(process)
    process.terminate()
    end(process)
    first = next(at for at, line in enumerate(lines) if FIRST_IMPORT[name] in line)
    last = max(at for at, line in enumerate(lines) if line.startswith("import time:"))
    moments = [first + (last - first) * step // imports for step in range(imports)]
    moments += [last + (len(lines) - 1 - last) * step // after for step in range(1, after + 1)]
    for step, moment in enumerate(moments):
        process = start(place, command)
        assert process.stdout is not None
        for _ in range(moment + 1):
            process.stdout.readline()
        process.send_signal(SIGNALS[step % len(SIGNALS)])
        end(process)


@pytest.mark.parametrize("name", COMMANDS)
async def test_closed_standard_files_are_no_reason_to_abort(place: Place, name: str) -> None:
    port = free_port()
    command = {"worker": ("worker", "--web-port"), "gateway": ("gateway", "--port"), "outbox": ("outbox", "--web-port")}
    process = start(place, (*command[name], str(port)), *CLOSED)
    try:
        await until(lambda: process.poll() is not None or answers(port), 60, "ready")
        process.terminate()
        end(process)
    finally:
        process.kill()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
            return bool(json.load(answer)["ready"])
    except OSError:
        return False


def test_commands_do_without_standard_files(place: Place) -> None:
    end(start(place, ("errors", "list"), *CLOSED))


def test_nohup_keeps_a_hangup_ignored_and_the_limit_of_open_files_is_raised(place: Place) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def under_nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))

    process = start(place, ("worker",), preexec_fn=under_nohup)
    url = lines_until_ready(process)[-1].split("web=")[1].strip()
    process.send_signal(signal.SIGHUP)
    with urllib.request.urlopen(f"{url}/health/live", timeout=10) as answer:
        assert answer.status == 200
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[0] == min(hard, descriptors.SOFT_MAX)
    process.terminate()
    end(process)


def test_too_few_open_files_are_named_with_the_remedy(place: Place) -> None:
    command = ["bash", "-c", 'ulimit -n 300 && exec "$@"', "limited", sys.executable, "-m", "pipeline"]

    environment = place.cli.environment | {"HARDPARTS_PARTITIONS": "64"}
    run = subprocess.run(
        [*command, "doctor", "--json"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    (found,) = [row for row in rows if row["check"] == "open files"]
    assert found["level"] == "WARN"
    assert f"up to {descriptors.needed(64, 1)} for 64 units on one worker, and 300 are allowed" in found["detail"]
    assert "ulimit -Hn" in found["remedy"]
    assert descriptors.needed(192, 1) > 1_700, "measured"


async def test_a_cancel_that_is_swallowed_is_repeated_until_the_task_ends() -> None:
    swallowed = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            swallowed.set()
        await asyncio.sleep(3600)

    tasks = [asyncio.create_task(stubborn()) for _ in range(2)]
    await asyncio.sleep(0)
    ending = asyncio.create_task(ended(*tasks, again_s=0.05))
    await asyncio.wait_for(swallowed.wait(), 5)
    ending.cancel()  # who ends them is cancelled too: they end all the same
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(ending, 5)
    assert all(task.cancelled() for task in tasks)
