"""`hardparts` as a real process, with an environment of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60


class CommandLine:
    """Runs commands against one broker: `cli("topics", "plan")`."""

    def __init__(self, broker_url: str, directory: Path, **settings: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HARDPARTS_")}
        self.environment = inherited | {
            "PYTHONPATH": str(ROOT),
            "HARDPARTS_BROKER": broker_url,
            "HARDPARTS_DATA_DIR": str(directory / "data"),
            "HARDPARTS_INSTANCE": "one",
            "HARDPARTS_PARTITIONS": "2",
            "HARDPARTS_WEB_PORT": "0",
        }
        self.environment.update({f"HARDPARTS_{name.upper()}": value for name, value in settings.items()})
        self.directory = ROOT

    def __call__(self, *arguments: str, stdin: str | bytes = b"", **settings: str) -> "Ended":
        process = subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=TIMEOUT_S,
            cwd=self.directory,
            env=self._environment(settings),
            check=False,
        )
        return Ended(process.returncode, process.stdout.decode(), process.stderr.decode())

    @contextmanager
    def running(
        self, *arguments: str, stderr: IO[str] | int = subprocess.PIPE, **settings: str
    ) -> Iterator[subprocess.Popen[str]]:
        """A process that is killed at the end, with its output as pipes."""
        with subprocess.Popen(
            [sys.executable, "-m", "pipeline", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=self.directory,
            env=self._environment(settings),
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def worker(self, **settings: str) -> Iterator[str]:
        """A worker that is ready; the URL of its pages."""
        with self.running("worker", **settings) as process:
            assert process.stdout
            line = process.stdout.readline()
            assert line.startswith("ready "), line + (process.stderr.read() if process.stderr else "")
            yield line.split("web=")[1].strip()

    def _environment(self, settings: dict[str, str]) -> dict[str, str]:
        return self.environment | {f"HARDPARTS_{name.upper()}": value for name, value in settings.items()}


class Ended:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        assert "Traceback" not in err, err

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    def failed(self, code: int) -> str:
        """The one line of its error, when it ended with `code`."""
        assert self.code == code, (self.code, self.out, self.err)
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]

    def fine(self) -> "Ended":
        """Itself, when it ended with 0 and without a word of complaint."""
        assert self.code == 0, (self.code, self.out, self.err)
        assert self.err == ""
        return self
