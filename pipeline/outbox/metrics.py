"""Prometheus metrics of a relay."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class OutboxMetrics:
    """One registry a relay."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.active = Gauge(
            "hardparts_outbox_active", "1: this relay has the table; 0: it stands by", registry=registry
        )
        self.unsent = Gauge(
            "hardparts_outbox_unsent_rows", "Rows that Kafka hasn't confirmed, counted to a million", registry=registry
        )
        self.oldest = Gauge("hardparts_outbox_oldest_seconds", "Age of the first unsent row", registry=registry)
        self.failed = Gauge("hardparts_outbox_failed_rows", "Rows that Kafka refuses for good", registry=registry)
        self.rows = Counter("hardparts_outbox_rows", "Rows by what became of them", ["outcome"], registry=registry)
        self.dependency = Histogram(
            "hardparts_dependency_seconds", "Calls to a dependency", ["dependency"], buckets=_SECONDS, registry=registry
        )

    def stands_by(self) -> None:
        """Another relay has the table, and the numbers."""
        self.active.set(0)
        for gauge in (self.unsent, self.oldest, self.failed):
            gauge.set(float("nan"))

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
