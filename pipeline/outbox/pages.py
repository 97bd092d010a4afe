"""HTTP of a relay: health and metrics."""

from aiohttp import web as http
from prometheus_client import CONTENT_TYPE_LATEST

from pipeline.outbox.metrics import OutboxMetrics
from pipeline.outbox.relay import Relay


class Pages:
    """The handlers of one relay's pages."""

    def __init__(self, relay: Relay, metrics: OutboxMetrics) -> None:
        self._relay, self._metrics = relay, metrics

    def install(self, router: http.UrlDispatcher) -> None:
        """Add them."""
        router.add_get("/health/live", self.live)
        router.add_get("/health/ready", self.ready)
        router.add_get("/metrics", self.metrics)

    async def live(self, _: http.Request) -> http.Response:
        """200: who hangs doesn't answer."""
        return http.json_response({"live": True})

    async def ready(self, _: http.Request) -> http.Response:
        """200 while the database answers, active or standing by; 503 while it doesn't.

        Kafka may be unavailable, or another cluster answer in its place (`kafka`).
        """
        relay = self._relay
        if relay.trouble is not None:
            return http.json_response({"ready": False, "reason": relay.trouble}, status=503)
        stranger = relay.other_cluster()
        kafka = {} if stranger is None else {"kafka": str(stranger)}
        return http.json_response({"ready": True, "active": relay.active, "held": relay.held(), **kafka})

    async def metrics(self, _: http.Request) -> http.Response:
        """Prometheus' text format."""
        return http.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
