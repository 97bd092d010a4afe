"""What a client sees of the gateway: how long its calls take, and what goes wrong, by kind."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from pipeline.client.errors import GatewayError

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ClientMetrics:
    """Clients that share a registry share these."""

    _looking = threading.Lock()
    _known: ClassVar[WeakKeyDictionary[CollectorRegistry, "ClientMetrics"]] = WeakKeyDictionary()

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "hardparts_client_seconds", "Calls of a gateway, attempts and waits included", ["topic", "outcome"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.errors = Counter(
            "hardparts_client_errors", "Attempts that failed, by kind", ["topic", "kind"], registry=registry
        )

    @classmethod
    def of(cls, registry: CollectorRegistry | None) -> "ClientMetrics":
        """Those of a registry; None: the process' own."""
        registry = registry if registry is not None else REGISTRY
        with cls._looking:
            if registry not in cls._known:
                cls._known[registry] = cls(registry)
            return cls._known[registry]

    def counting(self, topic: str) -> Callable[[str], None]:
        """Told of the kind of each attempt that failed."""
        return lambda kind: self.errors.labels(topic, kind).inc()

    @contextmanager
    def timed(self, topic: str) -> Iterator[None]:
        """Around a call: how long, and how it ended."""
        began, outcome = time.monotonic(), "accepted"
        try:
            yield
        except BaseException as error:
            outcome = error.name if isinstance(error, GatewayError) else type(error).__name__
            raise
        finally:
            self.seconds.labels(topic, outcome).observe(time.monotonic() - began)
