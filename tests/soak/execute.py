"""One run: its parts one after the other, each with a log, and the rows that they come to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from tests.kafka.jars import REPOSITORY, jars
from tests.soak.machine import Load
from tests.soak.parts import Part
from tests.soak.rows import row
from tests.soak.runs import RUNS


class RunFailed(Exception):
    """A part wasn't right; the message names it and its log."""


def execute(name: str, seed: int, directory: Path, *, short: bool) -> list[str]:
    """The rows of a run that was right; raises RunFailed, NothingFoundError."""
    rows = []
    for number, part in enumerate(RUNS[name].parts, 1):
        place = directory / str(number)
        place.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with Load() as load:
            flags, variables = part.flags_and_variables(short=short)
            arguments = [*part.arguments(seed, place), *flags]
            code = _shown(arguments, variables | part.variables(seed), place, part.output)
        took_s = time.monotonic() - began
        if code:
            raise RunFailed(f"{name}, part {number}: exit status {code}; {place / 'log'}")
        for figures, seconds in part.found(place):
            rows.append(_row(name, seed, part, figures, took_s if seconds is None else seconds, load, short=short))
    return rows


def _row(name: str, seed: int, part: Part, figures: str, seconds: float, load: Load, *, short: bool) -> str:
    today = datetime.now(UTC).date().isoformat()
    drawn = str(seed) if part.seeded else "none"
    return row(today, name, part.size(short=short), drawn, figures, f"{seconds:,.0f}", str(load), kafka_version())


def kafka_version() -> str:
    """The version of the jars that the brokers run from."""
    (jar,) = jars().glob("kafka_2.13-*.jar")
    return jar.stem.removeprefix("kafka_2.13-")


def _shown(arguments: list[str], variables: Mapping[str, str], place: Path, output: str) -> int:
    """Run `python -m …`; what it says is shown and logged. On Ctrl-C it is asked to end, and waited for."""
    command = [sys.executable, "-m", *arguments]
    environment = os.environ | variables | {"PYTHONUNBUFFERED": "1"}
    with ExitStack() as ending:
        log = ending.enter_context((place / "log").open("w", encoding="utf-8"))
        result = ending.enter_context((place / output).open("w", encoding="utf-8")) if output else None
        process = ending.enter_context(
            subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, text=True, errors="replace", start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=result or subprocess.PIPE,
                stderr=subprocess.PIPE if result else subprocess.STDOUT,
            )
        )  # fmt: skip
        said = process.stderr if result else process.stdout
        assert said is not None
        try:
            _copy(said, log)
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            _copy(said, log)
            raise


def _copy(said: IO[str], log: IO[str]) -> None:
    for line in said:
        print(line, end="", flush=True)
        log.write(line)
