"""`hardparts errors list` and `errors show`."""

import asyncio
import base64
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.frame import as_json, cluster_options, echo_json, framed, printable, progress, settings_of

if TYPE_CHECKING:
    from pipeline.ops.errors import ErrorRecord

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Moment(click.ParamType):
    """A point in time, in milliseconds since the epoch: `15m` ago, or an ISO time (UTC without a zone)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds since the epoch."""
        ago = re.fullmatch(r"(\d{1,9})([smhd])", value)
        try:
            if ago:
                moment = datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
            else:
                moment = datetime.fromisoformat(value)
                moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return int(moment.timestamp() * 1000)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: write 30s, 15m, 2h, 1d (ago) or 2026-01-31T12:00:00Z", param, ctx)


@click.group()
def errors() -> None:
    """Records that agents rejected: the error topic."""


@errors.command("list")
@click.option("--agent", help="Only of this agent.")
@click.option("--fingerprint", help="Only with this fingerprint, or its beginning.")
@click.option("--key", help="Only with this record key.")
@click.option("--since", type=Moment(), help="Only that failed then or later: 15m (ago) or an ISO time.")
@click.option("--until", type=Moment(), help="Only that failed before then.")
@click.option("--limit", type=click.IntRange(1), help="Only the newest so many.")
@cluster_options
@as_json
@framed
def list_(
    *, agent: str | None, fingerprint: str | None, key: str | None, since: int | None, until: int | None,
    limit: int | None, broker: str | None, app: str | None, app_id: str | None, as_json: bool,
) -> None:  # fmt: skip
    """List error records in order of arrival: id, time, agent, error, key."""
    from pipeline.ops.errors import Filter, listed

    settings = settings_of(broker=broker, app=app, app_id=app_id)
    which = Filter(agent, fingerprint, key, since, until)
    with progress("reading errors") as bar:
        found = asyncio.run(listed(settings, which, limit, bar))
    for error in found:
        if as_json:
            echo_json(_row(error))
        else:
            about = error.about
            message = about.get("error-message", "").partition("\n")[0]
            what = f"{about.get('error-class', '?')}: {message}"
            line = f"{error.id:<10} {_time(error)}  {about.get('agent', '?')}  key={printable(error.key)[:40]}  {what}"
            click.echo(printable(line))
    if not found and not as_json:
        click.echo("no errors")


@errors.command("show")
@click.argument("id_", metavar="ID")
@cluster_options
@as_json
@framed
def show(*, id_: str, broker: str | None, app: str | None, app_id: str | None, as_json: bool) -> None:
    """Show the error record ID (<partition>-<offset>): why it failed, and the record as it came."""
    from pipeline.ops.errors import one

    error = asyncio.run(one(settings_of(broker=broker, app=app, app_id=app_id), id_))
    if as_json:
        headers = [[name, _text(value)] for name, value in error.headers]
        whole = {"about": error.about, "headers": headers, "value": _text(error.value)}
        echo_json(_row(error) | whole | {"key_base64": _base64(error.key), "value_base64": _base64(error.value)})
        return
    click.echo(f"id {error.id}")
    for name, text in error.about.items():
        if name in ("error-explain", "error-stack"):
            continue
        click.echo(f"hp-{name}: {printable(text)}")
    for name in ("error-explain", "error-stack"):
        lines = error.about.get(name, "").splitlines()
        if lines:
            click.echo(f"hp-{name}:")
        for line in lines:
            click.echo(f"  {printable(line)}")
    for header, value in error.headers:
        click.echo(f"header {printable(header)}: {printable(value)}")
    click.echo(f"key: {printable(error.key)}")
    click.echo(f"value: {printable(error.value)}")


def _row(error: "ErrorRecord") -> dict[str, Any]:
    about = error.about
    return {
        "id": error.id, "failed_at": _time(error), "agent": about.get("agent"), "class": about.get("error-class"),
        "message": about.get("error-message"), "fingerprint": about.get("error-fingerprint"),
        "topic": about.get("source-topic"), "partition": _number(about.get("source-partition")),
        "offset": _number(about.get("source-offset")), "attempts": _number(about.get("attempts")),
        "key": _text(error.key),
    }  # fmt: skip


def _number(text: str | None) -> int | None:
    from pipeline.ops.errors import number

    return number(text)


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="backslashreplace")


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _time(error: "ErrorRecord") -> str:
    try:
        moment = datetime.fromtimestamp(error.failed_at_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return "?"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
