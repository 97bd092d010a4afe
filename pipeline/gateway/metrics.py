"""The gateway's golden signals: two latencies, traffic, errors, saturation."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OUTAGES = (30.0, 60.0, 300.0, 1_800.0, 7_200.0, 43_200.0)


class GatewayMetrics:
    """One registry a gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "hardparts_gateway_requests", "Posts of events, by answer", ["topic", "status"], registry=registry
        )
        self.events = Counter("hardparts_gateway_events", "Events taken into custody", ["topic"], registry=registry)
        self.accept = Histogram(
            "hardparts_gateway_accept_seconds",
            "From a request's arrival until its events are in custody",
            buckets=_SECONDS,
            registry=registry,
        )
        self.kafka = Histogram(
            "hardparts_gateway_kafka_seconds",
            "From an event's arrival until Kafka has it",
            buckets=_SECONDS + _OUTAGES,
            registry=registry,
        )
        self.send_errors = Counter(
            "hardparts_gateway_send_errors", "Requests to Kafka that failed", ["error"], registry=registry
        )
        self.undelivered = Gauge(
            "hardparts_gateway_undelivered_messages", "Messages in the undelivered log", registry=registry
        )
        self.custody = Gauge(
            "hardparts_custody_messages", "Messages that Kafka hasn't confirmed", ["place"], registry=registry
        )
        self.loop_stall = Histogram(
            "hardparts_loop_stall_seconds",
            "How late the event loop came to a timer that goes off ten times a second",
            buckets=_SECONDS,
            registry=registry,
        )

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
