"""The relay as a process: settings, producer, pages, signals."""

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import web as http

from pipeline.core.errors import Misconfigured
from pipeline.core.routing import PartitionerName
from pipeline.outbox.connect import Source
from pipeline.outbox.metrics import OutboxMetrics
from pipeline.outbox.pages import Pages
from pipeline.outbox.relay import Relay
from pipeline.outbox.table import Table
from pipeline.outbox.window import Bounds
from pipeline.producer import Limits, ReliableProducer
from pipeline.runtime.admin import client_options
from pipeline.runtime.alerts import Alerts
from pipeline.runtime.settings import Settings
from pipeline.signals import stop_signals

MISSING_AFTER_S = 5.0
"""A topic that is missing is asked for again anyway, from the table."""


async def serve(
    settings: Settings, partitioners: Mapping[str, PartitionerName], on_started: Callable[[str], object]
) -> None:
    """Relay until SIGTERM, SIGINT or SIGHUP. on_started: told the URL of the pages. Raises Misconfigured.

    partitioners: topic → the declared one, where it isn't murmur2.
    """
    metrics = OutboxMetrics()
    observe = metrics.dependency.labels("database").observe
    source = Source(settings.outbox_url, settings.outbox_table)
    table = Table(source, deletes=settings.outbox_keep_s is not None, on_call=observe)
    bounds, alerts = Bounds(), Alerts(settings.alert_webhook, settings.instance)
    limits = Limits(memory_messages=2 * bounds.rows, memory_bytes=2 * bounds.bytes)
    producer = ReliableProducer(
        client_options(settings),
        limits=limits,
        partitioners=partitioners,
        linger_s=0,
        missing_after_s=MISSING_AFTER_S,
    )
    relay = Relay(table, producer, alerts, metrics, keep_s=settings.outbox_keep_s, bounds=bounds)
    loop = asyncio.get_running_loop()
    stop_signals.then(lambda: loop.call_soon_threadsafe(relay.stop))
    application = http.Application()
    Pages(relay, metrics).install(application.router)
    runner = http.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        on_started(await _listen(runner, settings))
        await producer.start()
        await relay.run()
    finally:
        await producer.stop(timeout_s=0)
        await runner.cleanup()
        await alerts.drain()


async def _listen(runner: http.AppRunner, settings: Settings) -> str:
    try:
        await http.TCPSite(runner, settings.web_host, settings.web_port).start()
    except OSError as error:
        raise Misconfigured(
            f"can't listen on {settings.web_host}:{settings.web_port} ({error.strerror or error}): "
            "set HARDPARTS_WEB_HOST and HARDPARTS_WEB_PORT (--web-port; 0 takes a free one)"
        ) from None
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
