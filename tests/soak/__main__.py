"""Command line of the long acceptance runs."""

from __future__ import annotations

import random
import signal
import sys
import time
from textwrap import fill

import click

from tests.kafka.jars import REPOSITORY, KafkaUnavailable, jars, java
from tests.soak.execute import RunFailed, execute
from tests.soak.parts import NothingFoundError
from tests.soak.rows import DOCUMENT, add
from tests.soak.runs import RUNS

LOGS = REPOSITORY / ".cache" / "soak"
ALL = "all"
WIDTH = 110


@click.command()
@click.argument("name", type=click.Choice([*RUNS, ALL]), required=False)
@click.option("--seed", type=click.IntRange(0), help="Of the input and the schedule.  [default: drawn]")
@click.option(
    "--short", is_flag=True, help="The size of CI, a minute or two each; nothing is written to the documents."
)
def main(*, name: str | None, seed: int | None, short: bool) -> None:
    """A long acceptance run at full size on a real Apache Kafka. Without NAME: which ones there are.

    A run that was right adds its figures to docs/measurements.md. Exit status: 0 right, 1 not right, 2 wrong usage.
    """
    if name is None:
        for each in RUNS:
            print(_listed(each))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what it started as Ctrl-C does
    try:
        java()
        jars()
    except KafkaUnavailable as reason:
        raise click.UsageError(str(reason)) from None
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    failed = [each for each in (RUNS if name == ALL else [name]) if not _run(each, seed, short=short)]
    if failed:
        print(f"not right: {', '.join(failed)}", file=sys.stderr)
    sys.exit(1 if failed else 0)


def _run(name: str, seed: int, *, short: bool) -> bool:
    flags = f"{name} --seed {seed}{' --short' if short else ''}"
    print(f'=== make soak ARGS="{flags}"', flush=True)
    began = time.monotonic()
    try:
        rows = execute(name, seed, LOGS / f"{name}-{seed}{'-short' if short else ''}", short=short)
    except (RunFailed, NothingFoundError) as error:
        print(f"=== {name}: NOT RIGHT after {time.monotonic() - began:.0f} s: {error}", flush=True)
        return False
    print("\n".join(rows))
    print(f"=== {name}: right, {time.monotonic() - began:.0f} s", flush=True)
    if not short:
        add(rows)
        print(f"added to {DOCUMENT.relative_to(REPOSITORY)}", flush=True)
    return True


def _listed(name: str) -> str:
    run = RUNS[name]
    size = " · ".join(dict.fromkeys(part.size(short=False) for part in run.parts))
    text = f"{run.proves} ({size}; about {run.minutes} min, --short {run.short_s} s)"
    return fill(text, WIDTH, initial_indent=f"{name:<10}", subsequent_indent=" " * 10)


if __name__ == "__main__":
    main(prog_name="python -m tests.soak")
