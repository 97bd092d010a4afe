"""`hardparts gateway`: events over HTTP."""

import asyncio
import gc
import logging

import click

from pipeline.commands.frame import cluster_options, framed, loglevel_option, settings_of
from pipeline.signals import stop_signals


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on; 0: a free one [HARDPARTS_GATEWAY_PORT: 6070]."
)
@loglevel_option
@cluster_options
@framed
def gateway(*, port: int | None, loglevel: str, broker: str | None, app: str | None, app_id: str | None) -> None:
    """Take events over HTTP, POST /events/TOPIC, into durable custody, and bring them to Kafka.

    Prints `ready http://HOST:PORT`, also with Kafka away. SIGTERM, SIGHUP and Ctrl-C stop it within 10 seconds;
    what Kafka hasn't confirmed by then stays on the disk for the next start.
    """
    stop_signals.handle()
    import uvloop

    from pipeline.gateway.server import serve
    from pipeline.kafka.repeats import quieten
    from pipeline.ops.application import application
    from pipeline.runtime.descriptors import raise_limit

    raise_limit()  # one for each caller
    logging.basicConfig(
        level=getattr(logging, loglevel.upper()), format="[%(asctime)s] %(levelname)s %(name)s: %(message)s"
    )
    quieten()
    application_ = application(settings_of(broker=broker, app=app, app_id=app_id, gateway_port=port))
    gc.collect()
    gc.freeze()  # what is loaded now stays: collections needn't walk it
    gc.set_threshold(400_000, 20, 100)  # each one keeps every request waiting
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(application_, lambda url: click.echo(f"ready {url}")))
