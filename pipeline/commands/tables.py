"""`hardparts tables dump` and `tables get`."""

import asyncio

import click

from pipeline.commands.frame import cluster_options, echo_json, framed, printable, progress, settings_of


@click.group()
def tables() -> None:
    """The agents' state, as views declared in tables/."""


@tables.command("dump")
@click.argument("table")
@cluster_options
@framed
def dump(*, table: str, broker: str | None, app: str | None, app_id: str | None) -> None:
    """Print every row of TABLE as JSON lines {"key": …, "value": …}, folded from its changelog, in key order.

    Works without a worker. A change that a worker hasn't written to the changelog yet isn't shown.
    """
    from pipeline.ops.application import application
    from pipeline.ops.tables import fold

    application_ = application(settings_of(broker=broker, app=app, app_id=app_id))
    with progress(f"reading {table}") as bar:
        rows = asyncio.run(fold(application_, table, bar))
    for key, value in rows:
        echo_json({"key": key, "value": value})


@tables.command("get")
@click.argument("table")
@click.argument("key")
@click.option("--worker", metavar="URL", help="The worker to ask [http://HARDPARTS_WEB_HOST:HARDPARTS_WEB_PORT].")
@framed
def get(*, table: str, key: str, worker: str | None) -> None:
    """Print the row of KEY as {"key": …, "value": …}, asked from the worker that owns it.

    A worker that doesn't own it says which partition to look for. A pair's key is written `1/2`. HARDPARTS_WEB_TOKEN is
    sent along when it is set. A worker of another application or cluster is refused.
    """
    from pipeline.ops.tables import ask_worker, expected_of

    settings = settings_of()
    url = worker or f"http://{settings.web_host}:{settings.web_port}"
    row, told = asyncio.run(ask_worker(url, table, key, settings.token, expected_of(settings)))
    if not told:
        click.echo(f"warning: {printable(url)} doesn't say which application it belongs to: upgrade it", err=True)
    echo_json({"key": row["key"], "value": row["value"]})
