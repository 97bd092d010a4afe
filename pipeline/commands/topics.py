"""`hardparts topics plan` and `topics apply`."""

import asyncio
from typing import TYPE_CHECKING

import click

from pipeline.commands.frame import FAILED, as_json, cluster_options, echo_json, framed, settings_of

if TYPE_CHECKING:
    from pipeline.ops.plan import Difference


@click.group()
def topics() -> None:
    """The catalogue's topics, our own and the changelogs: compare them with the cluster, and create them."""


@topics.command("plan")
@click.option("--force", is_flag=True, help="Plan as `apply --force` would.")
@cluster_options
@as_json
@framed
def plan(*, force: bool, broker: str | None, app: str | None, app_id: str | None, as_json: bool) -> int:
    """Show the difference between catalogue and cluster; changes nothing.

    Exit 0 when there is none, 1 when there is one. `!` marks what `topics apply` refuses.
    """
    from pipeline.ops.application import application
    from pipeline.ops.topics import differences

    found = asyncio.run(differences(application(settings_of(broker=broker, app=app, app_id=app_id)), force))
    for difference in found:
        _show(difference, as_json)
    if not found and not as_json:
        click.echo("nothing to do")
    return FAILED if found else 0


@topics.command("apply")
@click.option(
    "--force",
    is_flag=True,
    help="Add partitions to ordered outputs too, although keys move, never to what an agent of this application reads. "
    "Create an empty changelog in place of one that is lost.",
)
@cluster_options
@as_json
@framed
def apply(*, force: bool, broker: str | None, app: str | None, app_id: str | None, as_json: bool) -> int:
    """Make the cluster as the catalogue wants it: create topics, set their settings, add partitions.

    Exit 1 when something is refused; everything else is done all the same. Nothing is ever deleted, and a topic that an
    agent reads keeps its partition count.
    """
    from pipeline.ops.application import application
    from pipeline.ops.topics import apply as apply_

    application_ = application(settings_of(broker=broker, app=app, app_id=app_id))
    result = asyncio.run(apply_(application_, force, lambda done: _show(done, as_json, "done")))
    for difference in result.refused:
        _show(difference, as_json, "refused")
    if not (result.done or result.refused or as_json):
        click.echo("nothing to do")
    return FAILED if result.refused else 0


def _show(difference: "Difference", as_json: bool, state: str | None = None) -> None:
    if as_json:
        echo_json(difference._asdict() | ({"state": state} if state else {}))
    else:
        click.echo(str(difference))
