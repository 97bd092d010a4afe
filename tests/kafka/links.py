"""A real broker that workers reach over a link which tests make slow, silent, still or torn (Toxiproxy)."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

from tests.goprogram import Ordered, compiled
from tests.kafka.cluster import KafkaCluster, _free_ports

SOURCES = Path(__file__).parent / "go"
BOTH = ("upstream", "downstream")
"""From the workers to the broker, and back."""
AN_HOUR_MS = 3_600_000


def binary() -> Path:
    """The compiled link; raises NoGo."""
    return compiled(SOURCES, "bad-link")


class Link(Ordered):
    """A context manager. Every connection through it, old or new, suffers all that was ordered, until `well`."""

    def __init__(self, upstream: str) -> None:
        super().__init__(binary(), upstream)
        self._numbers = count()

    @property
    def address(self) -> str:
        """`host:port` at which it takes connections."""
        return self.said

    def connections(self) -> int:
        """How many have been made through it so far."""
        return int(self.order("connections"))

    def slow(self, latency_ms: int, jitter_ms: int, kilobytes_s: int) -> None:
        """Late by that much, each way, and narrow."""
        for stream in BOTH:
            self._toxic("latency", stream, latency=latency_ms, jitter=jitter_ms)
            self._toxic("bandwidth", stream, rate=kilobytes_s)

    def silent(self) -> None:
        """Nothing comes through, and connections stay open; what was sent meanwhile is lost, and then they close."""
        for stream in BOTH:
            self._toxic("timeout", stream, timeout=0)

    def still(self) -> None:
        """Nothing comes through, and connections stay open; `well` delivers what was sent meanwhile."""
        for stream in BOTH:
            self._toxic("latency", stream, latency=AN_HOUR_MS)

    def cut_after(self, stream: str, size: int) -> None:
        """A connection is closed when so many bytes more have gone that way: in the middle of a request or answer."""
        self._toxic("limit_data", stream, bytes=size)

    def reset_after(self, milliseconds: int) -> None:
        """A connection is reset (RST) so long after its first byte; what was sent meanwhile is lost."""
        self._toxic("reset_peer", "upstream", timeout=milliseconds)

    def well(self) -> None:
        """The link is good again."""
        self.order("well")

    def _toxic(self, kind: str, stream: str, **attributes: int) -> None:
        name = f"{kind} {next(self._numbers)}"  # two of a kind add up
        self.order("toxic " + json.dumps({"name": name, "type": kind, "stream": stream, "attributes": attributes}))


class LinkedCluster(KafkaCluster):
    """One broker with two client listeners: `bootstrap` is the test's own, direct way in, `far` leads over `link`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(1, directory)
        node = self.nodes[1]
        upstream = next(port for port in _free_ports(3) if port not in {node.port, node.controller_port})
        self.link = Link(f"127.0.0.1:{upstream}")
        self._settings = {
            "listeners": (
                f"PLAINTEXT://{node.address},FAR://127.0.0.1:{upstream},CONTROLLER://127.0.0.1:{node.controller_port}"
            ),
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,FAR:PLAINTEXT,CONTROLLER:PLAINTEXT",
        }

    @property
    def far(self) -> str:
        """`host:port` of the broker at the other end of the link."""
        return self.link.address

    def start(self, timeout_s: float = 60) -> None:
        """The link first: the broker gives its address to whoever asks over it."""
        self.link.__enter__()
        self._settings["advertised.listeners"] = f"PLAINTEXT://{self.nodes[1].address},FAR://{self.far}"
        super().start(timeout_s)

    def close(self) -> None:
        """The broker, then the link."""
        super().close()
        if self.link.running:
            self.link.__exit__(None, None, None)
