"""docker-compose.yml as data, and its services' surroundings moved onto this machine: other ports, other paths."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")


def load() -> dict[str, Any]:
    """The file, with `${NAME:-default}` replaced by its default, as on a machine that sets nothing."""
    text = (REPOSITORY / "docker-compose.yml").read_text()
    file: dict[str, Any] = yaml.safe_load(VARIABLE.sub(lambda match: match["default"] or "", text))
    return file


def environment(service: Mapping[str, Any]) -> dict[str, str]:
    """The service's own variables; compose wants text, so anything else in the file is a mistake."""
    variables = service.get("environment", {})
    wrong = {name: value for name, value in variables.items() if not isinstance(value, str)}
    assert not wrong, f"not text: {wrong}"
    return dict(variables)


def health_check(service: Mapping[str, Any]) -> list[str]:
    """The command that compose runs in the container to ask whether the service is healthy."""
    kind, *command = service["healthcheck"]["test"]
    assert kind == "CMD", "a shell form hides which program the image must have"
    return command


@dataclass
class Moved:
    """What a service knows inside the network → what stands for it here. Longer names are replaced first."""

    places: dict[str, str] = field(default_factory=dict)

    def __call__(self, text: str) -> str:
        """`text` with every place moved."""
        for old in sorted(self.places, key=len, reverse=True):
            text = text.replace(old, self.places[old])
        return text

    def all(self, texts: Mapping[str, str]) -> dict[str, str]:
        """`texts` with the places in its values moved."""
        return {name: self(text) for name, text in texts.items()}


@contextmanager
def running(
    command: list[str], log: Path, env: Mapping[str, str], *, user: str | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A service's process with exactly its own environment; stopped with SIGTERM, killed if that takes 30 s."""
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(log.parent), **env}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=surroundings, stdin=subprocess.DEVNULL, stdout=output, stderr=output, user=user, cwd=cwd
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_healthy(process: subprocess.Popen[bytes], check: Callable[[], bool], log: Path, timeout_s: float = 60) -> None:
    """Ask `check` until it says yes; AssertionError with the end of the log if the process ends or the time is up."""
    deadline = time.monotonic() + timeout_s
    while not check():
        ended, late = process.poll() is not None, time.monotonic() > deadline
        tail = log.read_text(errors="replace")[-3000:]
        assert not ended, f"ended with exit code {process.returncode} before it was healthy:\n{tail}"
        assert not late, f"not healthy within {timeout_s} s:\n{tail}"


def succeeds(command: list[str], env: Mapping[str, str], timeout_s: float = 30) -> bool:
    """Whether a health check's command exits 0 in the service's environment."""
    surroundings = {"PATH": os.environ["PATH"], **env}
    return (
        subprocess.run(command, env=surroundings, capture_output=True, timeout=timeout_s, check=False).returncode == 0
    )
