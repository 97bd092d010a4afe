"""`hardparts outbox`, `outbox ddl`, `outbox status` and `outbox retry`."""

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.commands.frame import FAILED, as_json, echo_json, framed, loglevel_option, printable, settings_of
from pipeline.signals import stop_signals

if TYPE_CHECKING:
    from pipeline.outbox import Table

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def _table_options(function: F) -> F:
    options = (
        click.option("--url", help="SQLAlchemy URL of the application's database [HARDPARTS_OUTBOX_URL]."),
        click.option("--table", help="The outbox table [HARDPARTS_OUTBOX_TABLE: kafka_outbox]."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.group(invoke_without_command=True)
@click.option("--broker", help="Brokers, kafka://host:port[,…] [HARDPARTS_BROKER: kafka://127.0.0.1:9092].")
@_table_options
@click.option(
    "--web-port", type=click.IntRange(0, 65535), help="Port for health and metrics [HARDPARTS_WEB_PORT: 6066]."
)
@loglevel_option
@click.pass_context
def outbox(context: click.Context, /, loglevel: str, **flags: Any) -> None:
    """Relay the rows of an outbox table to Kafka, in order per key, each marked when Kafka has confirmed it.

    One relay of a table is active, others stand by. Prints `ready` when its pages are there; a database or a broker
    that is away is waited for. SIGTERM, SIGHUP and Ctrl-C finish what is on its way.
    """
    given = [f"--{name.replace('_', '-')}" for name, value in flags.items() if value is not None]
    if context.invoked_subcommand is None:
        _relay(loglevel=loglevel, **flags)
    elif given:
        raise click.UsageError(f"write {given[0]} after {context.invoked_subcommand}")


@framed
def _relay(*, broker: str | None, url: str | None, table: str | None, web_port: int | None, loglevel: str) -> None:
    stop_signals.handle()
    from pipeline.kafka.repeats import quieten
    from pipeline.ops.application import declared_partitioners
    from pipeline.outbox.service import serve

    settings = settings_of(broker=broker, outbox_url=url, outbox_table=table, web_port=web_port)
    logging.basicConfig(
        level=loglevel.upper(), stream=sys.stderr, format="[%(asctime)s] %(levelname)s %(name)s: %(message)s"
    )
    quieten()
    asyncio.run(serve(settings, declared_partitioners(settings), lambda web: click.echo(f"ready web={web}")))


@outbox.command("ddl")
@click.option(
    "--dialect", type=click.Choice(["postgresql", "sqlite"]), help="For which database [that of HARDPARTS_OUTBOX_URL]."
)
@click.option("--table", help="The outbox table [HARDPARTS_OUTBOX_TABLE: kafka_outbox].")
@framed
def ddl(*, dialect: str | None, table: str | None) -> None:
    """Print the SQL that creates the table and its indexes, for the application's migrations."""
    from pipeline.outbox import ddl as ddl_
    from pipeline.outbox.connect import dialect_of
    from pipeline.outbox.name import TableName

    settings = settings_of(outbox_table=table)
    name = TableName.parse(settings.outbox_table)
    click.echo(ddl_(dialect or dialect_of(settings.outbox_url), name), nl=False)


@outbox.command("status")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Failed rows to show.")
@_table_options
@as_json
@framed
def status(*, limit: int, url: str | None, table: str | None, as_json: bool) -> int:
    """What waits, whether a relay is active, and which rows Kafka refused for good. Exit 1 when there are such rows."""
    opened = _open(url, table)

    async def ask() -> tuple[Any, ...]:
        failures = await opened.failures(limit)
        return await opened.backlog(), await opened.by_topic(), failures, await opened.relay_is_active()

    backlog, topics, failures, active = _ask(opened, ask())
    if as_json:
        waiting = [{"topic": _text(name), "unsent": rows, "oldest_s": round(age, 1)} for name, rows, age in topics]
        echo_json({"active": active, "unsent": backlog.unsent, "failed": backlog.failed, "topics": waiting})
        for row in failures:
            echo_json({name: _text(value) for name, value in row.items()})
    else:
        click.echo(f"relay: {'active' if active else 'none'}")
        click.echo(f"unsent: {backlog.unsent} (oldest {backlog.oldest_s:.1f} s)")
        for name, rows, age in topics:
            click.echo(f"  {printable(name):<40}  {rows:>8}  oldest {age:.1f} s")
        click.echo(f"failed: {backlog.failed}")
        for row in failures:
            key = printable(row["key"])[:40]
            click.echo(
                printable(f"  {row['id']}  {row['topic']}  key={key}  attempts={row['attempts']}  {row['failure']}")
            )
    return FAILED if backlog.failed else 0


@outbox.command("retry")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=int)
@click.option("--topic", help="All failed rows of this topic.")
@click.option("--all", "all_", is_flag=True, help="All failed rows.")
@_table_options
@as_json
@framed
def retry(
    *, ids: tuple[int, ...], topic: str | None, all_: bool, url: str | None, table: str | None, as_json: bool
) -> None:
    """Send failed rows again: those with these IDs, those of a topic, or all.

    They come after later rows of their key, which went on without them.
    """
    if (bool(ids), topic is not None, all_).count(True) != 1:
        raise click.UsageError("name IDs, or --topic, or --all")
    opened = _open(url, table)
    count = _ask(opened, opened.retry(ids, topic))
    if as_json:
        echo_json({"retried": count})
    else:
        click.echo(f"{count} rows will be sent again")


def _open(url: str | None, table: str | None) -> "Table":
    from pipeline.outbox import Table
    from pipeline.outbox.connect import Source

    settings = settings_of(outbox_url=url, outbox_table=table)
    return Table(Source(settings.outbox_url, settings.outbox_table))


def _ask(opened: "Table", question: Any) -> Any:
    try:
        return asyncio.run(question)
    finally:
        opened.close()


def _text(value: Any) -> Any:
    """As text that can be printed: a database may hold bytes, or text that isn't UTF-8."""
    content = value.encode(errors="surrogateescape") if isinstance(value, str) else value
    return content.decode(errors="backslashreplace") if isinstance(content, bytes) else value
