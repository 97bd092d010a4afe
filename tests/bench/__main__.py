"""Command line of the benchmark."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import click
from aiokafka.errors import KafkaError
from rich.console import Console

from tests.kafka.cluster import KafkaCluster
from tests.kafka.trial import GUARANTEES, Trial

from .compare import compare
from .failover import GOALS_S, Failovers, failover
from .flat import IDS_PER_USER, flat
from .gateway import gateway, gateway_sheet
from .kafka_topics import delete_topics, topic_names
from .latency import latency
from .outage import outage
from .peer import COMPARED, OUR_OUTPUT_TOPICS, RUN_PREFIX, Site
from .produce import produce, produce_sheet
from .recovery import recovery
from .report import (
    comparison_sheet,
    failover_sheet,
    flatness_sheet,
    latency_sheet,
    outage_sheet,
    recovery_sheet,
    storm_sheet,
)
from .shown import SHOWN, show
from .storm import storm
from .verify import WrongOutputError
from .workload import INPUT_TOPIC, Workload

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
progress = Console(stderr=True, highlight=False)


def shared_options(command: F) -> F:
    """Options that every benchmark has."""
    options = (
        click.option(
            "--rounds", type=click.IntRange(1), default=3, show_default=True, help="Repeat in turns; medians are shown."
        ),
        click.option("--partitions", type=click.IntRange(1), default=4, show_default=True),
        click.option("--broker", help="host:port of an empty Kafka to use instead of starting one."),
        *SHOWN,
    )
    for option in reversed(options):
        command = option(command)
    return command


def fault_options(rate: float) -> Callable[[F], F]:
    """Options of the measurements that make faults; `rate` is the default load."""

    def decorate(command: F) -> F:
        options = (
            click.option("--rate", type=click.FloatRange(1), default=rate, show_default=True, help="Events a second."),
            click.option("--partitions", type=click.IntRange(1), default=4, show_default=True),
            click.option("--guarantee", type=click.Choice(GUARANTEES), default=GUARANTEES[0], show_default=True),
            click.option("--seed", type=int, default=1, show_default=True),
            *SHOWN,
        )
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Measure our worker against its peers on a real Apache Kafka. Without a command: compare."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it can't mend by trying again, it raises
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the peers and the broker as Ctrl-C does
    if context.invoked_subcommand is None:
        context.invoke(compare_command)


@main.command("compare")
@click.option("--events", type=click.IntRange(1_000), default=1_000_000, show_default=True)
@click.option(
    "--stock-events", type=click.IntRange(1_000), default=50_000, show_default=True, help="Where stock Faust may stop."
)
@click.option("--users", type=click.IntRange(1), default=10_000, show_default=True)
@click.option(
    "--duplicates", type=click.FloatRange(0, 0.9), default=0.05, show_default=True, help="Share of repeated events."
)
@click.option("--peers", default=",".join(COMPARED), show_default=True, help="Names, separated by commas.")
@shared_options
def compare_command(
    *, events: int, stock_events: int, users: int, duplicates: float, peers: str, rounds: int, **common: Any
) -> None:
    """Throughput, CPU and memory of every peer at the same work."""
    unknown = set(peers.split(",")) - set(COMPARED)
    if unknown:
        raise click.BadParameter(
            f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(COMPARED)}", param_hint="--peers"
        )
    chosen = [COMPARED[name] for name in peers.split(",")]
    for peer in chosen:
        if not peer.installed:
            progress.print(
                f"left out: {peer.title}, because {peer.needs} isn't installed (tests/bench/requirements.txt)"
            )
    workload = Workload(events, users, duplicates)
    result = _measure(
        common,
        lambda site: compare(
            site,
            [peer for peer in chosen if peer.installed],
            workload,
            stock_events=stock_events,
            rounds=rounds,
            say=progress.print,
        ),
    )
    show(comparison_sheet(result), result.as_json(), common)


@main.command("flat")
@click.option(
    "--measured", type=click.IntRange(1_000), default=50_000, show_default=True, help="Events measured in each case."
)
@shared_options
def flat_command(measured: int, rounds: int, **common: Any) -> None:
    """Cost of an event whose user has 10, 1,000 and 100,000 ids, in one partition."""
    result = _measure(
        common, lambda site: flat(site, IDS_PER_USER, measured=measured, rounds=rounds, say=progress.print)
    )
    show(flatness_sheet(result), result.as_json(), common)


@main.command("latency")
@click.option(
    "--rate", "rate_per_s", type=click.FloatRange(1), default=1_000, show_default=True, help="Events a second."
)
@click.option("--seconds", type=click.FloatRange(1), default=30, show_default=True)
@shared_options
def latency_command(rate_per_s: float, seconds: float, rounds: int, **common: Any) -> None:
    """End-to-end latency at a steady rate, against an echo."""
    result = _measure(
        common, lambda site: latency(site, rate_per_s=rate_per_s, seconds=seconds, rounds=rounds, say=progress.print)
    )
    show(latency_sheet(result), result.as_json(), common)


@main.command("recovery")
@click.option("--sizes", default="50000,200000,500000,1000000", show_default=True, help="Records in the changelogs.")
@click.option("--faust-max", type=click.IntRange(0), default=50_000, show_default=True, help="Stock Faust's largest.")
@shared_options
def recovery_command(sizes: str, faust_max: int, rounds: int, **common: Any) -> None:
    """Cold rebuild of state from an empty disk, against Faust's own recovery of as many records."""
    numbers = [int(size) for size in sizes.split(",")]
    result = _measure(
        common, lambda site: recovery(site, numbers, faust_max=faust_max, rounds=rounds, say=progress.print)
    )
    show(recovery_sheet(result), result.as_json(), common)


@main.command("failover")
@click.option(
    "--ways", default=",".join(GOALS_S), show_default=True, help="How a partition changes hands, separated by commas."
)
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Of each way.")
@click.option("--rows", type=click.IntRange(0), default=200_000, show_default=True, help="Changelog rows a partition.")
@click.option("--session-timeout", "session_s", type=click.FloatRange(1), default=10, show_default=True)
@fault_options(rate=500)
def failover_command(
    ways: str, trials: int, rows: int, session_s: float, rate: float, seed: int, **common: Any
) -> None:
    """A worker is killed, stopped, restarted as a static member: seconds until its partitions have a new output."""

    async def run(trial: Trial) -> Failovers:
        handovers, figures = await failover(
            trial, ways.split(","), trials=trials, rows=rows, rate=rate, seed=seed, say=progress.print
        )
        return Failovers(trial.partitions, common["guarantee"], session_s, rate, handovers, figures)

    result = _try(common, run, session_timeout_s=str(session_s))
    show(failover_sheet(result), result.as_json(), common)


@main.command("storm")
@click.option("--seconds", type=click.FloatRange(1), default=300, show_default=True)
@click.option("--every", "every_s", type=click.FloatRange(1), default=20, show_default=True, help="Seconds.")
@fault_options(rate=2_000)
def storm_command(seconds: float, every_s: float, rate: float, seed: int, **common: Any) -> None:
    """A second worker joins and leaves again and again, under load."""
    result = _try(
        common,
        lambda trial: storm(
            trial,
            guarantee=common["guarantee"],
            seconds=seconds,
            every_s=every_s,
            rate=rate,
            seed=seed,
            say=progress.print,
        ),
        session_timeout_s="10",
    )
    show(storm_sheet(result), result.as_json(), common)


@main.command("outage")
@click.option("--seconds", type=click.FloatRange(1), default=300, show_default=True)
@click.option("--backlog", type=click.IntRange(1), default=100_000, show_default=True, help="Records when it goes.")
@fault_options(rate=200)
def outage_command(seconds: float, backlog: int, rate: float, seed: int, **common: Any) -> None:
    """The only broker is killed and comes back after some time; nobody restarts a worker."""
    result = _try(
        common,
        lambda trial: outage(
            trial,
            guarantee=common["guarantee"],
            seconds=seconds,
            backlog=backlog,
            rate=rate,
            seed=seed,
            say=progress.print,
        ),
        session_timeout_s="10",
    )
    show(outage_sheet(result), result.as_json(), common)


def _try(common: dict[str, Any], benchmark: Callable[[Trial], Awaitable[T]], **settings: str) -> T:
    """On a broker of its own, which it may kill: fresh topics, workers, and the judge at the end."""

    async def run(cluster: KafkaCluster, directory: Path) -> T:
        guarantee, partitions = common["guarantee"], common["partitions"]
        async with Trial(
            cluster, directory, partitions=partitions, processing_guarantee=guarantee, **settings
        ) as trial:
            return await benchmark(trial)

    with TemporaryDirectory(prefix="hardparts-bench-", ignore_cleanup_errors=True) as directory:
        path = Path(directory)
        with KafkaCluster(1, path / "kafka") as cluster, redirect_stdout(sys.stderr):  # the judge prints its figures
            return asyncio.run(run(cluster, path))


@main.command("produce")
@click.option("--messages", type=click.IntRange(10_000), default=200_000, show_default=True)
@click.option("--bytes", "payload_bytes", type=click.IntRange(2), default=1_000, show_default=True)
@click.option("--outage-s", type=click.FloatRange(1), default=10, show_default=True, help="Seconds of each outage.")
@shared_options
def produce_command(messages: int, payload_bytes: int, rounds: int, outage_s: float, **common: Any) -> None:
    """The reliable producer against bare aiokafka, and in an outage; it starts and kills a broker of its own."""
    if common["broker"]:
        raise click.BadParameter("this one kills its broker: it starts one of its own", param_hint="--broker")
    with TemporaryDirectory(prefix="hardparts-bench-", ignore_cleanup_errors=True) as directory:
        path = Path(directory)
        with KafkaCluster(1, path / "kafka") as cluster:
            work = produce(
                cluster,
                path,
                messages=messages,
                payload_bytes=payload_bytes,
                partitions=common["partitions"],
                rounds=rounds,
                outage_s=outage_s,
                say=progress.print,
            )
            result = asyncio.run(work)
    show(produce_sheet(result), result.as_json(), common)


@main.command("gateway")
@click.option(
    "--rate", "rate_per_s", type=click.FloatRange(1), default=1_000, show_default=True, help="Requests a second."
)
@click.option(
    "--seconds", type=click.FloatRange(4), default=60, show_default=True, help="Half of them with Kafka away."
)
@click.option("--partitions", type=click.IntRange(1), default=4, show_default=True)
@SHOWN[0]
@SHOWN[1]
def gateway_command(rate_per_s: float, seconds: float, partitions: int, **common: Any) -> None:
    """The gateway against a bare server, with Kafka and without; exit 1 when an accepted event isn't in the topic."""
    with TemporaryDirectory(prefix="hardparts-bench-", ignore_cleanup_errors=True) as directory:
        path = Path(directory)
        with KafkaCluster(1, path / "kafka") as cluster:
            work = gateway(
                cluster, path, rate_per_s=rate_per_s, seconds=seconds, partitions=partitions, say=progress.print
            )
            result = asyncio.run(work)
    show(gateway_sheet(result), result.as_json(), common)
    if result.lost or result.disordered:
        raise click.ClickException(f"{result.lost} lost, {result.disordered} users out of order")


def _measure(common: dict[str, Any], benchmark: Callable[[Site], Awaitable[T]]) -> T:
    async def run(site: Site) -> T:
        # The benchmark deletes and refills these topics, so it never touches a cluster where somebody else has them.
        taken = (await topic_names(site.bootstrap)) & {INPUT_TOPIC, *OUR_OUTPUT_TOPICS}
        if taken:
            raise click.UsageError(
                f"{site.bootstrap} is in use: it has {', '.join(sorted(taken))}; give an empty Kafka"
            )
        try:
            return await benchmark(site)
        finally:
            await delete_topics(site.bootstrap, names=[INPUT_TOPIC, *OUR_OUTPUT_TOPICS], containing=RUN_PREFIX)

    if not Path("/proc/self/stat").exists():
        raise click.ClickException("CPU and memory of the peers are read from /proc: run the benchmark on Linux")
    try:
        with _site(common["broker"], common["partitions"]) as site:
            return asyncio.run(run(site))
    except (RuntimeError, TimeoutError, KafkaError, WrongOutputError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _site(broker: str | None, partitions: int) -> Iterator[Site]:
    with TemporaryDirectory(prefix="hardparts-bench-", ignore_cleanup_errors=True) as directory:
        path = Path(directory)
        if broker:
            yield Site(broker.removeprefix("kafka://"), partitions, path)
            return
        with KafkaCluster(1, path / "kafka") as cluster:
            yield Site(cluster.bootstrap, partitions, path)


if __name__ == "__main__":
    main(prog_name="python -m tests.bench")
