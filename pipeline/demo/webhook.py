"""The demo's own receiver of alerts, where a pager would be."""

from collections.abc import Callable
from typing import Any, Self

from aiohttp import web

Alert = dict[str, Any]


class Webhook:
    """`async with Webhook(on_alert) as hook`: `hook.url` takes POSTs; what came is kept in `opened` and `closed`."""

    def __init__(self, on_alert: Callable[[Alert], None]) -> None:
        self._on_alert = on_alert
        self.opened: list[Alert] = []
        self.closed: list[Alert] = []
        self.url = ""

    @property
    def open(self) -> dict[str, Alert]:
        """Alerts that are open now, by name."""
        closed = [alert["alert"] for alert in self.closed]
        found = {}
        for alert in self.opened:
            if alert["alert"] in closed:
                closed.remove(alert["alert"])
            else:
                found[str(alert["alert"])] = alert
        return found

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/alerts", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, shutdown_timeout=1)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/alerts"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        alert: Alert = await request.json()
        (self.opened if alert["state"] == "open" else self.closed).append(alert)
        self._on_alert(alert)
        return web.Response(status=204)
