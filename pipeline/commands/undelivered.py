"""`hardparts undelivered list`, `undelivered replay` and `undelivered discard`."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from pipeline.commands.frame import as_json, echo_json, framed, printable, progress, settings_of

F = TypeVar("F", bound=Callable[..., Any])


def of_gateway(function: F) -> F:
    """--gateway."""
    help_ = "The gateway to ask [http://HARDPARTS_WEB_HOST:HARDPARTS_GATEWAY_PORT]."
    return click.option("--gateway", "url", metavar="URL", help=help_)(function)


@click.group()
def undelivered() -> None:
    """Messages of a running gateway that Kafka refused for good; HARDPARTS_WEB_TOKEN must be the gateway's."""


@undelivered.command("list")
@of_gateway
@as_json
@framed
def list_(*, url: str | None, as_json: bool) -> None:
    """List them, oldest first within a topic-partition: id, time, error, attempts, key, reason; --json has all."""
    asyncio.run(_list(url, as_json))


@undelivered.command("replay")
@of_gateway
@as_json
@framed
def replay(*, url: str | None, as_json: bool) -> None:
    """Send all of them again, once the cause is mended; what is refused again is in the log again.

    It may be stopped and called again at any point: none is skipped. A message that a kill of the gateway caught in
    between is sent twice, with the same msg_id.
    """
    from pipeline.ops.undelivered import Gateway

    with progress("sending again") as bar:
        done = asyncio.run(Gateway(settings_of(), url).replay(lambda count: bar(count, count)))
    if as_json:
        echo_json({"replayed": done})
    else:
        click.echo(f"{done} in custody again")


@undelivered.command("discard")
@click.argument("id_", metavar="ID")
@of_gateway
@as_json
@framed
def discard(*, id_: str, url: str | None, as_json: bool) -> None:
    """Forget the message ID for good."""
    from pipeline.ops.undelivered import Gateway

    asyncio.run(Gateway(settings_of(), url).discard(id_))
    if as_json:
        echo_json({"discarded": id_})


async def _list(url: str | None, as_json: bool) -> None:
    from pipeline.ops.undelivered import Gateway

    async for one in Gateway(settings_of(), url).undelivered():
        if as_json:
            echo_json(one)
            continue
        at = datetime.fromtimestamp(one["at_ms"] / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        key = str(one["key"])[:40]
        tried = f"{one['attempts']} attempts"
        click.echo(printable(f"{one['id']}  {at}  {one['error']}  {tried}  key={key}  {one['reason']}"))
