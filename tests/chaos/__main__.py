"""Command line of the chaos run."""

from __future__ import annotations

import json
import logging
import random
import signal
import sys
from pathlib import Path
from typing import get_args

import click

from pipeline.runtime.settings import Settings
from tests.chaos.outcome import Outcome
from tests.chaos.page import page
from tests.chaos.plan import Options, schedule
from tests.chaos.planted.bugs import BUGS
from tests.chaos.planted.run import GUARANTEE
from tests.chaos.planted.show import try_planted
from tests.chaos.run import run
from tests.chaos.show import Show
from tests.kafka.jars import REPOSITORY, KafkaUnavailable, jars, java

REPORTS = REPOSITORY / ".cache" / "chaos"
EVENTS_A_FAULT = 300
ALL = "all"
GUARANTEES = get_args(Settings.model_fields["processing_guarantee"].annotation)
"""What the setting accepts, so that a run can be had of each."""


@click.command()
@click.option("--events", type=click.IntRange(1), default=60_000, show_default=True, help="Records of input.")
@click.option("--kills", type=click.IntRange(0), default=10, show_default=True, help="SIGKILLs of workers.")
@click.option("--broker-kills", type=click.IntRange(0), default=0, show_default=True, help="SIGKILLs of brokers.")
@click.option("--brokers", type=click.Choice(["1", "3"]), default="1", show_default=True)
@click.option("--guarantee", type=click.Choice(GUARANTEES), default=GUARANTEES[0], show_default=True)
@click.option("--seed", type=click.IntRange(0), help="Repeats the schedule and the input of a run.  [default: drawn]")
@click.option(
    "--planted",
    is_flag=False,
    flag_value=ALL,
    metavar="[NAME]",
    type=click.Choice([ALL, *BUGS]),
    help="Instead: plant bugs into the workers, all or one, and see each caught.",
)
@click.option("--report", type=click.Path(path_type=Path, file_okay=False), help="Where the report goes.")
def main(
    *,
    events: int,
    kills: int,
    broker_kills: int,
    brokers: str,
    guarantee: str,
    seed: int | None,
    planted: str | None,
    report: Path | None,
) -> None:
    """Kill, freeze and restart workers and brokers under load, and judge what is left.

    Exit status: 0 when all is right, 1 when it isn't, 2 for wrong usage.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # brokers go away on purpose
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends workers and brokers as Ctrl-C does
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    if planted is not None:
        if guarantee != GUARANTEE:
            raise click.UsageError(f"the bugs are planted into the path of {GUARANTEE}")
        _need_kafka()
        sys.exit(try_planted(list(BUGS) if planted == ALL else [planted], seed))
    options = Options(seed, events, kills, broker_kills, 3 if brokers == "3" else 1, guarantee)
    if events < EVENTS_A_FAULT * len(schedule(options)):
        least = EVENTS_A_FAULT * len(schedule(options))
        raise click.UsageError(f"{len(schedule(options))} faults need at least {least} events to come in mid-stream")
    _need_kafka()
    directory = report or REPORTS / str(seed)
    logs = directory / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with Show() as show:
        outcome = run(options, logs, show)
    _tell(outcome)
    (directory / "report.json").write_text(json.dumps(outcome.as_json(), indent=1), encoding="utf-8")
    (directory / "report.html").write_text(page(outcome), encoding="utf-8")
    print(directory / "report.html", flush=True)
    sys.exit(0 if outcome.ok else 1)


def _need_kafka() -> None:
    try:
        java()
        jars()
    except KafkaUnavailable as reason:
        raise click.UsageError(str(reason)) from None


def _tell(outcome: Outcome) -> None:
    if outcome.report is not None:
        print(outcome.report)
    if outcome.failure:
        print(outcome.failure)
    verdict = "right" if outcome.ok else "WRONG"
    print(
        f"{verdict}: {len(outcome.fired)} of {len(outcome.plan)} faults, {outcome.kills} kills, {outcome.took_s:.0f} s"
    )
    print(outcome.bound if outcome.ok else f"repeat with: {outcome.options.command}")


if __name__ == "__main__":
    main(prog_name="python -m tests.chaos")
