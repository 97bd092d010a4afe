"""`hardparts worker`: one process with all agents of the application."""

import logging
import sys

import click

from pipeline.commands.frame import loglevel_option
from pipeline.core.errors import HardpartsError, Misconfigured
from pipeline.signals import stop_signals


@click.command()
@click.option("--instance", help="Name of this replica; its state lives under it [HARDPARTS_INSTANCE: host name].")
@click.option(
    "--web-port", type=click.IntRange(0, 65535), help="Port for health and metrics [HARDPARTS_WEB_PORT: 6066]."
)
@loglevel_option
def worker(instance: str | None, web_port: int | None, loglevel: str) -> None:
    """Run one worker process; add replicas to scale.

    Prints `ready` with its partitions once their state is recovered, also when it has none. SIGTERM, SIGHUP and
    Ctrl-C finish or abandon what is in hand within 3 seconds, commit and leave the group.
    """
    stop_signals.handle()
    from pipeline.runtime.run import run_worker

    try:
        code = run_worker(instance=instance, web_port=web_port, loglevel=getattr(logging, loglevel.upper()))
    except HardpartsError as error:
        click.echo(f"hardparts worker: {error}", err=True)
        code = 2 if isinstance(error, Misconfigured) else 1
    sys.exit(code)
