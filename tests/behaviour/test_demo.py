"""`hardparts demo` as a person meets it: in a pipe, on a terminal, interrupted, killed, and without a broker."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.behaviour.commandline import ROOT, CommandLine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for left processes in /proc")

SMALL = ("--events", "2000", "--seconds", "4")
END_WITHIN_S = 90


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipeline", "demo", *arguments]


def environment(directory: Path) -> dict[str, str]:
    """Hostile settings, which the demo must not follow; its temporary directory shows whose children a process is."""
    return os.environ | {
        "TMPDIR": str(directory),
        "HARDPARTS_BROKER": "kafka://127.0.0.1:1",
        "HARDPARTS_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/production",
        "HARDPARTS_PARTITIONS": "none",
    }


def left(directory: Path) -> list[str]:
    """Command lines of processes that have `directory` in their environment."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and str(directory).encode() in process.joinpath("environ").read_bytes():
                found.append(process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def until_nothing_is_left(directory: Path) -> None:
    deadline = time.monotonic() + 20
    while there := left(directory):
        assert time.monotonic() < deadline, there
        time.sleep(0.1)


@contextmanager
def taken(port: int) -> Iterator[None]:
    with closing(socket.socket()) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody else has it: as good
            listener.bind(("127.0.0.1", port))
            listener.listen()
        yield


def test_a_whole_day_in_a_pipe_adds_up_while_the_usual_ports_are_taken(tmp_path: Path) -> None:
    began_at = time.monotonic()
    with taken(9092), taken(6066):
        process = subprocess.Popen(
            command(*SMALL), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env=environment(tmp_path),
        )  # fmt: skip
        assert process.stdout
        first = process.stdout.readline()
        first_after_s = time.monotonic() - began_at
        out = first + process.stdout.read()
        assert process.wait(END_WITHIN_S) == 0, out
    assert first_after_s < 5
    assert "\x1b" not in out, "no terminal codes in a pipe"
    assert """val: "Robert'); drop table students" fails spec: integer or UUID""" in out
    assert re.search(
        r"alert +read-model, partition \d: .*database is locked \(by webhook, and in worker-\d\.log\)", out
    )
    assert re.search(r"closed +read-model:\d after \d", out)
    assert re.search(r"kill +worker-2 \(process \d+\) gets SIGKILL", out)
    assert re.search(r"ready +worker-3 has partitions \d", out)
    assert re.search(r"^in +2,000 +2,000  ok", out, re.MULTILINE)
    for name in ("applied", "duplicates", "errors", "out: comment-counts", "out: messages", "SQL messages"):
        assert re.search(rf"^{name} +([1-9][\d,]*) +\1  ok", out, re.MULTILINE), (name, out)
    assert out.endswith("It adds up: nothing lost, nothing counted twice, order kept.\n")
    assert not left(tmp_path)
    assert not list(tmp_path.iterdir()), "the fresh directory is removed"


def test_ctrl_c_on_a_terminal_ends_everything(tmp_path: Path) -> None:
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.execve(sys.executable, command(), environment(tmp_path) | {"TERM": "xterm", "COLUMNS": "120"})
    screen = read_until(terminal, b"outputs' lag")
    assert "━".encode() in screen, "a progress bar"
    assert left(tmp_path)
    os.write(terminal, b"\x03")
    screen += read_until(terminal, b"nothing is left")
    assert b"Traceback" not in screen
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 130
    os.close(terminal)
    assert not left(tmp_path)
    assert not list(tmp_path.iterdir())


def read_until(terminal: int, text: bytes) -> bytes:
    seen, deadline = b"", time.monotonic() + 60
    while text not in seen:
        assert select.select([terminal], [], [], deadline - time.monotonic())[0], seen
        seen += os.read(terminal, 65536)
    return seen


@pytest.mark.chaos
def test_nothing_outlives_a_demo_that_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("--json"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        env=environment(tmp_path),
    )  # fmt: skip
    assert process.stdout
    for line in process.stdout:
        if json.loads(line).get("kind") == "feeding":
            break
    assert sum("leash" in line for line in left(tmp_path)) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    until_nothing_is_left(tmp_path)


@pytest.mark.chaos
def test_left_running_it_says_what_to_try_and_that_works(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(*SMALL, "--keep", "--json"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        env=environment(tmp_path),
    )  # fmt: skip
    try:
        assert process.stdout
        rows = []
        for line in process.stdout:
            rows.append(json.loads(line))
            if rows[-1]["what"] == "text":
                break
        assert [row["ok"] for row in rows if row["what"] == "verdict"] == [True]
        lines = [line.strip() for line in rows[-1]["text"].splitlines() if line.startswith("  ")]
        exports = "\n".join(line for line in lines if line.startswith("export "))
        commands = [line for line in lines if not line.startswith("export ")]
        assert len(commands) == 3
        outputs = [
            subprocess.run(
                ["bash", "-c", f"{exports}\n{one}"], capture_output=True, text=True, cwd=ROOT, check=True
            ).stdout
            for one in commands
        ]
        assert "hp-error-class: ContractBroken" in outputs[0]
        assert "Robert'); drop table students" in outputs[0]
        assert all(json.loads(line)["value"] > 0 for line in outputs[1].splitlines())
        assert 'hardparts_records_total{agent="user-events"' in outputs[2]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.stdout.close()
    until_nothing_is_left(tmp_path)


def test_without_an_answering_broker_it_says_so_in_a_line(tmp_path: Path) -> None:
    ended = subprocess.run(
        command("--broker", "kafka://127.0.0.1:1"), capture_output=True, text=True, cwd=ROOT, timeout=60,
        env=environment(tmp_path), check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr == ""
    assert "failed    no broker answers at 127.0.0.1:1: name one that runs" in ended.stdout.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.chaos
def test_a_forged_output_is_found_out(tmp_path: Path) -> None:
    forged = {
        "msg_id": "00000000-0000-5000-8000-000000000000",
        "type": "comment.counted",
        "data": {"user_id": 1, "count": 1_000_000},
    }
    with subprocess.Popen(
        command(*SMALL, "--json"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        env=environment(tmp_path),
    ) as process:  # fmt: skip
        assert process.stdout
        rows = []
        for line in process.stdout:
            rows.append(json.loads(line))
            if rows[-1].get("kind") == "feeding":
                broker = next(row["text"].rpartition(" ")[2] for row in rows if row.get("kind") == "broker")
                sent = CommandLine(broker, tmp_path)(
                    "send", "comment-counts", stdin=json.dumps({"key": "1", "value": forged})
                )
                assert sent.code == 0, sent.err
        assert process.wait() == 1
    verdict = next(row for row in rows if row["what"] == "verdict")
    assert not verdict["ok"]
    assert [row["name"] for row in verdict["rows"] if not row["ok"]] == ["out: comment-counts", "SQL comment_counts"]
    assert rows[-1]["kind"] == "left", "logs and data stay for a look"
