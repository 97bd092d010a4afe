"""`hardparts broker`: the embedded broker in the foreground."""

import json
import signal
import sys
from pathlib import Path

import click

from pipeline.broker.binary import BrokerUnavailableError
from pipeline.broker.process import BrokerStartError, EmbeddedBroker

LOOK_S = 0.1


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
    came: list[int] = []
    # Both by name: a shell that starts this in the background of a script has SIGINT ignored. An exception raised by a
    # handler could end up wherever Python is just then, in a destructor too, where it would go unheard.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda number, _frame: came.append(number))
    embedded = EmbeddedBroker(data=data, port=port, brokers=brokers)
    try:
        embedded.start()
        click.echo(json.dumps({"ready": embedded.url}) if as_json else f"ready {embedded.url}")
        if data is None:
            click.echo("kept in memory only; --data DIR keeps topics and offsets. Ctrl-C stops.", err=True)
        code = None
        while not came and code is None:
            code = embedded.wait(LOOK_S)
        if code is not None:
            click.echo(f"the embedded broker ended by itself, exit code {code}", err=True)
            sys.exit(1)
        click.echo("stopping", err=True)
    except (BrokerStartError, BrokerUnavailableError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    finally:
        embedded.stop()
