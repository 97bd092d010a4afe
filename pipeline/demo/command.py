"""`hardparts demo`: settings from the command line, Ctrl-C, and what is left at the end."""

import asyncio
import logging
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.core.errors import HardpartsError, Misconfigured

if TYPE_CHECKING:
    from pipeline.demo.story import Options
    from pipeline.demo.view import View

INTERRUPTED = 130


@click.command()
@click.option("--events", type=click.IntRange(100, 10_000_000), default=20_000, show_default=True, help="How many.")
@click.option(
    "--seconds", type=click.FloatRange(1, 3600), default=20, show_default=True, help="Time over which they are fed."
)
@click.option("--workers", type=click.IntRange(1, 16), default=2, show_default=True, help="Worker processes.")
@click.option(
    "--broker", metavar="URL", help="A Kafka to use, kafka://host:port[,…]; without it an embedded one starts."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed feeds the same events.")
@click.option("--keep", is_flag=True, help="Leave it running at the end and say what to try; Ctrl-C stops it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def demo(
    *, events: int, seconds: float, workers: int, broker: str | None, seed: int, keep: bool, as_json: bool
) -> None:
    """Run the whole pipeline through a bad day, and count afterwards.

    Worker processes handle events with duplicates and poison records, a database goes away and comes back, a worker is
    killed and replaced. Then an independent count says what must have come out. Exit 0 when that is what did, 1 when
    not. HARDPARTS_… variables are not used, so that the demo can't reach what they name; only with --broker are those
    that say how to reach one securely. With --broker, topics whose names begin with hardparts-demo- stay behind.
    """
    from pipeline.demo.view import view_for

    view = view_for(events, as_json)
    view.note("demo", f"{events:,} events, {workers} workers, seed {seed}; Ctrl-C stops everything")

    from aiokafka.errors import KafkaError

    from pipeline.demo.story import Options

    for name in ("aiokafka", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they would say, the notes say
    directory, code = Path(tempfile.mkdtemp(prefix="hardparts-demo-")), 1
    try:
        with view:
            code = asyncio.run(_interruptible(Options(events, seconds, workers, broker, seed), view, directory, keep))
    except HardpartsError as error:
        code = 2 if isinstance(error, Misconfigured) else 1
        view.note("failed", str(error))
    except KafkaError as error:
        view.note("failed", f"the broker: {type(error).__name__}: {error}")
    finally:
        if code in (0, INTERRUPTED) or not any(directory.iterdir()):
            shutil.rmtree(directory, ignore_errors=True)
        else:
            view.note("left", f"logs and data stay in {directory}")
    sys.exit(code)


async def _interruptible(options: "Options", view: "View", directory: Path, keep: bool) -> int:
    """Run it; the first signal cancels it, and what is then stopped in good order no further one disturbs."""
    running = asyncio.create_task(_run(options, view, directory, keep))

    def interrupt() -> None:
        if not running.cancelling():
            view.note("stopping", "workers and broker")
            running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    try:
        return await running
    except asyncio.CancelledError:
        view.note("stopped", "nothing is left")
        return INTERRUPTED


async def _run(options: "Options", view: "View", directory: Path, keep: bool) -> int:
    from pipeline.demo.hints import hints
    from pipeline.demo.story import Story
    from pipeline.demo.view import adds_up

    async with Story(options, view, directory) as story:
        await story.day()
        if not keep:
            view.note("stopping", "the workers")
            await story.crew.stop()
        rows = await story.verdict()
        view.verdict(rows)
        code = 0 if adds_up(rows) else 1
        if keep:
            view.text(hints(story))
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return code
    return code
