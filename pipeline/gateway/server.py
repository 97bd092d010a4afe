"""The gateway's process: settings → application → custody → pages, until a signal ends it."""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from pipeline.core.errors import Misconfigured
from pipeline.gateway.custody import Custody
from pipeline.gateway.door import doors
from pipeline.gateway.metrics import GatewayMetrics
from pipeline.gateway.pages import Pages
from pipeline.gateway.undelivered import UndeliveredLog
from pipeline.producer.link import Link
from pipeline.runtime.alerts import Alerts
from pipeline.runtime.app import App
from pipeline.runtime.security import is_loopback
from pipeline.runtime.settings import Settings
from pipeline.runtime.stall import measure_stalls
from pipeline.signals import stop_signals

log = logging.getLogger("hardparts.gateway")

ANSWER_S = 2.0
"""When it stops, requests that were taken get their answers within this time."""


async def serve(app: App, ready: Callable[[str], None]) -> None:
    """Run until SIGTERM, SIGINT or SIGHUP; `ready` is told the URL. Raises Misconfigured, SpillUnusable, SpillInUse."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    stop_signals.then(lambda: loop.call_soon_threadsafe(stop.set))
    async with running(app) as url:
        ready(url)
        await stop.wait()


@asynccontextmanager
async def running(app: App, link: Link | None = None) -> AsyncIterator[str]:
    """A gateway for this application, and its URL. link: instead of aiokafka.

    It ends within 10 s, also with Kafka away: what is left stays in the spill.
    """
    settings = app.settings
    require_token(settings)
    open_doors = doors(app)
    if not open_doors:
        raise Misconfigured("no topic takes events: the agents write every topic of the catalogue that has a contract")
    metrics, alerts = GatewayMetrics(), Alerts(settings.alert_webhook, settings.instance)
    partitioners = {topic.name: topic.partitioner for topic in app.catalogue}
    custody = Custody(settings, list(open_doors), metrics, alerts, partitioners=partitioners, link=link)
    await custody.start()
    try:
        kept = UndeliveredLog(custody, metrics, alerts)
        await kept.count()
        pages = Pages(settings, open_doors, custody, metrics)
        stalls = asyncio.get_running_loop().create_task(measure_stalls(metrics.loop_stall))
        runner = web.AppRunner(
            pages.application(kept), access_log=None, shutdown_timeout=ANSWER_S, auto_decompress=False
        )
        await runner.setup()
        try:
            yield await _listen(runner, settings)
        finally:
            pages.stopping = True
            await runner.cleanup()
            stalls.cancel()
    finally:
        left, _ = await asyncio.gather(custody.stop(), alerts.drain())
        if left:
            log.warning("stopped with %d messages in custody: they go to Kafka at the next start", left)


def require_token(settings: Settings) -> None:
    """Misconfigured when anybody who reaches this address could send events."""
    if not settings.token and not is_loopback(settings.web_host):
        raise Misconfigured(
            f"HARDPARTS_WEB_TOKEN: events from beyond this machine ({settings.web_host}) need one: set it"
        )


async def _listen(runner: web.AppRunner, settings: Settings) -> str:
    host, port = settings.web_host, settings.gateway_port
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Misconfigured(
                f"port {port} is taken on {host}: stop what listens there, or choose another "
                "(--port or HARDPARTS_GATEWAY_PORT; 0 takes a free one)"
            ) from None
        raise Misconfigured(
            f"can't listen on {host}:{port} ({error.strerror or error}): set HARDPARTS_WEB_HOST and --port"
        ) from None
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{runner.addresses[0][1]}"
