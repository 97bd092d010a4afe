"""`hardparts broker`: the embedded broker in the foreground."""

import json
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from pipeline.broker.binary import BrokerUnavailableError
from pipeline.broker.process import BrokerStartError, EmbeddedBroker


class _Stopped(Exception):
    """SIGTERM or SIGINT came."""


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9092, show_default=True, help="Port on loopback; 0: a free one."
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Directory that keeps topics and offsets. Without it they are gone at the end.",
)
@click.option(
    "--brokers", type=click.IntRange(1, 9), default=1, show_default=True, help="Brokers, on ports one after another."
)
@click.option("--json", "as_json", is_flag=True, help="Print the ready line as JSON.")
def broker(*, port: int, data: Path | None, brokers: int, as_json: bool) -> None:
    """Run the embedded broker until Ctrl-C. For development only: in production use Apache Kafka.

    Prints `ready kafka://127.0.0.1:PORT` once it answers. Exits 1 if it can't run, saying why.
    """
    # Both by name: a shell that starts this in the background of a script has SIGINT ignored.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _stop)
    embedded = EmbeddedBroker(data=data, port=port, brokers=brokers)
    try:
        embedded.start()
        click.echo(json.dumps({"ready": embedded.url}) if as_json else f"ready {embedded.url}")
        if data is None:
            click.echo("kept in memory only; --data DIR keeps topics and offsets. Ctrl-C stops.", err=True)
        code = embedded.wait()
        click.echo(f"the embedded broker ended by itself, exit code {code}", err=True)
        sys.exit(1)
    except (BrokerStartError, BrokerUnavailableError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except _Stopped:
        click.echo("stopping", err=True)
    finally:
        embedded.stop()


def _stop(_signum: int, _frame: FrameType | None) -> None:
    raise _Stopped
