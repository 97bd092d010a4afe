"""`hardparts send`: JSON lines into a topic."""

import asyncio
import logging
from pathlib import Path

import click

from pipeline.commands.frame import (
    FAILED,
    as_json,
    cluster_options,
    echo_json,
    framed,
    progress,
    settings_of,
    standard_input,
)


@click.command()
@click.argument("topic")
@click.option("--file", "path", default="-", show_default=True, help="JSON lines to send; - is standard input.")
@cluster_options
@as_json
@framed
def send(*, topic: str, path: str, broker: str | None, app: str | None, app_id: str | None, as_json: bool) -> int:
    """Send JSON lines {"key": …, "value": …, "headers": {…}} to TOPIC; return when all are confirmed.

    The value is written as compact JSON, null as a tombstone; the key chooses the partition by the partitioner that the
    application's catalogue declares for TOPIC, else as Kafka's Java clients do. At a line that can't be sent it stops,
    says how many were confirmed, and exits 1.
    """
    from pipeline.ops.send import LineBroken, Stopped
    from pipeline.ops.send import send as send_

    logging.getLogger("hardparts.producer").setLevel(logging.CRITICAL)  # the one line of the error says it

    settings = settings_of(broker=broker, app=app, app_id=app_id)
    source = standard_input() if path == "-" else Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed below
    size = Path(path).stat().st_size if path != "-" else 0
    try:
        with progress(f"sending to {topic}") as bar:
            confirmed = asyncio.run(send_(settings, topic, source.fileno(), lambda _, read: bar(read, size or read)))
    except (Stopped, LineBroken) as error:
        if as_json:
            echo_json({"topic": topic, "confirmed": getattr(error, "confirmed", None), "error": str(error)})
        click.echo(f"error: {error}", err=True)
        return FAILED
    finally:
        if path != "-":
            source.close()
    if as_json:
        echo_json({"topic": topic, "confirmed": confirmed})
    else:
        click.echo(f"{confirmed} records confirmed by {topic}")
    return 0
