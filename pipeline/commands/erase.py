"""`hardparts erase`: one user out of state, changelogs and read model, and a report of what is left where."""

import asyncio
from dataclasses import asdict

import click

from pipeline.commands.frame import as_json, cluster_options, echo_json, framed, printable, progress, settings_of


@click.command()
@click.argument("user_id")
@click.option("--dry-run", is_flag=True, help="Count what would be erased; write nothing.")
@click.option(
    "--worker",
    "workers",
    metavar="URL",
    multiple=True,
    help="A worker to ask; repeat it for several [http://HARDPARTS_WEB_HOST:HARDPARTS_WEB_PORT].",
)
@cluster_options
@as_json
@framed
def erase(
    *, user_id: str, dry_run: bool, workers: tuple[str, ...], broker: str | None, app: str | None,
    app_id: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Erase the rows under USER_ID, the record key: state, changelogs (tombstones), claims and marks, SQL read model.

    The workers that own them do it, so all agents must be up; HARDPARTS_WEB_TOKEN must be theirs. Records in other
    topics can't be erased one by one: the report says how many there are, where, and how long they stay. The user's
    marks go too: an old record that is read or sent again is applied as new. Exit 1 when a part is not erased; doing it
    again is harmless.
    """
    from pipeline.ops.application import application
    from pipeline.ops.erase import erase_rows, what_stays, workers_of

    settings = settings_of(broker=broker, app=app, app_id=app_id)
    application_ = application(settings)
    asked = workers_of(settings, workers)
    asyncio.run(erase_rows(application_, user_id, asked, lambda line: _show(asdict(line), as_json), dry_run=dry_run))
    with progress("reading topics") as bar:
        left = asyncio.run(what_stays(application_, user_id, bar))
    for line in left:
        _show(asdict(line), as_json)


def _show(line: dict[str, object], as_json: bool) -> None:
    if as_json:
        echo_json(line)
        return
    where = line["where"] if line["place"] in ("topic", "changelog") else f"{line['where']} {line['name']}"
    count = "" if line["place"] == "changelog" else line["count"]
    click.echo(printable(f"{line['place']:<9}  {where:<40}  {count:>6}  {line['detail']}"))
