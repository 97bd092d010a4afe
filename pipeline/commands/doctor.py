"""`hardparts doctor`: what keeps a worker from running here."""

import asyncio

import click

from pipeline.commands.frame import FAILED, as_json, cluster_options, echo_json, framed, printable, settings_of

COLOURS = {"ok": "green", "WARN": "yellow", "FAIL": "red"}


@click.command()
@cluster_options
@as_json
@framed
def doctor(*, broker: str | None, app: str | None, app_id: str | None, as_json: bool) -> int:
    """Check broker, topics, contracts, data directory, imports, clock and database: one line each.

    ok, WARN or FAIL, with a remedy. Exit 1 when something FAILs.
    """
    from pipeline.ops.doctor import examine

    findings = asyncio.run(examine(settings_of(broker=broker, app=app, app_id=app_id)))
    for finding in findings:
        if as_json:
            echo_json(finding._asdict())
        else:
            level = click.style(f"{finding.level:<4}", fg=COLOURS[finding.level])
            remedy = f" -> {finding.remedy}" if finding.remedy else ""
            click.echo(f"{level} {printable(f'{finding.check}: {finding.detail}{remedy}')}")
    return FAILED if any(finding.level == "FAIL" for finding in findings) else 0
