"""Prometheus metrics of a worker, by the names of the documented surface."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pipeline.core.outcome import Applied, Conflict, Duplicate, Ignored, Outcome, Rejected

OUTCOME_NAMES: dict[type, str] = {
    Applied: "applied",
    Duplicate: "duplicate",
    Conflict: "duplicate",
    Rejected: "rejected",
    Ignored: "ignored",
}

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """One registry a worker, so that several applications in one process don't collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.records = Counter(
            "hardparts_records", "Records by what became of them", ["agent", "outcome"], registry=registry
        )
        self.errors = Counter(
            "user_consumer_errors", "Records sent to the error topic", ["agent", "class"], registry=registry
        )
        self.blocked = Gauge(
            "hardparts_blocked_seconds",
            "How long the head of a partition has been waiting",
            ["agent", "topic", "partition", "reason"],
            registry=registry,
        )
        self.lag = Gauge(
            "hardparts_lag_records", "Records behind the head", ["agent", "topic", "partition"], registry=registry
        )
        self.lag_readable = Gauge(
            "hardparts_lag_readable_records",
            "Records behind the last stable offset: what can be read now",
            ["agent", "topic", "partition"],
            registry=registry,
        )
        self.records_lost = Counter(
            "hardparts_records_lost",
            "Offsets that the broker deleted before they were read",
            ["topic", "partition"],
            registry=registry,
        )
        self.rewinds = Counter(
            "hardparts_rewinds",
            "Returns to the beginning of a source whose log had lost its end",
            ["topic", "partition"],
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "hardparts_lag_seconds",
            "Age of the first unfinished record",
            ["agent", "topic", "partition"],
            registry=registry,
        )
        self.standby_behind = Gauge(
            "hardparts_standby_behind_records",
            "Changelog records that a standby copy has not applied",
            ["agent", "partition"],
            registry=registry,
        )
        self.steps = Histogram(
            "hardparts_step_seconds",
            "Time a batch spends in a step",
            ["agent", "step"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.end_to_end = Histogram(
            "hardparts_end_to_end_seconds",
            "From the record's time to its commit, of the last record of a batch",
            ["agent"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.dependency = Histogram(
            "hardparts_dependency_seconds", "Calls to a dependency", ["dependency"], buckets=_SECONDS, registry=registry
        )
        self.expired = Counter(
            "hardparts_marks_expired", "Marks deleted because they were past the horizon", ["agent"], registry=registry
        )
        self.loop_stall = Histogram(
            "hardparts_loop_stall_seconds",
            "How late the event loop came to a timer that goes off ten times a second",
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("hardparts_in_flight", "Handlers running", registry=registry)

    def count(self, agent: str, outcomes: Iterable[Outcome]) -> None:
        """Count a batch's outcomes; a conflict counts as a duplicate, its audit record tells them apart."""
        totals: dict[str, int] = {}
        for outcome in outcomes:
            name = OUTCOME_NAMES[type(outcome)]
            totals[name] = totals.get(name, 0) + 1
            if type(outcome) is Rejected:
                self.errors.labels(agent, outcome.rejection.error_class).inc()
        for name, total in totals.items():
            self.records.labels(agent, name).inc(total)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
