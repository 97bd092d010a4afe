"""The configuration of the brokers that the tests start: production's rules with quick timings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Node:
    """One combined broker and controller: its id (from 1), its two loopback ports and its directory."""

    node_id: int
    port: int
    controller_port: int
    directory: Path

    @property
    def address(self) -> str:
        """`host:port` of the client listener."""
        return f"127.0.0.1:{self.port}"

    @property
    def properties(self) -> Path:
        """The file that `kafka.Kafka` is started with."""
        return self.directory / "server.properties"

    @property
    def log(self) -> Path:
        """What the process printed."""
        return self.directory / "broker.log"


def server_properties(node: Node, nodes: Sequence[Node], overrides: Mapping[str, str]) -> str:
    """`server.properties` of `node` in a cluster of `nodes`; `overrides` win.

    Kafka's own defaults, but for what makes a test quick or its brokers small. None of that changes a rule that the
    product meets in production: who creates topics, and which sizes, times and retention the brokers allow.
    """
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": node.node_id,
        "controller.quorum.voters": ",".join(f"{n.node_id}@127.0.0.1:{n.controller_port}" for n in nodes),
        "listeners": f"PLAINTEXT://{node.address},CONTROLLER://127.0.0.1:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{node.address}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": node.directory / "data",
        # Small: a few partitions of Kafka's own topics, not 50 of each; a cleaner that fits into the heap, not 128 MiB;
        # files of deleted topics leave the disk after a second, not a minute.
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.num.partitions": 1,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "log.segment.delete.delay.ms": 1000,
        # Quick: a group's first members don't wait 3 s for others, and workers may ask for sessions below 6 s.
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # Quick: a dead broker is noticed in 3 s, not 9 s (a killed one may register again only after that time), and a
        # follower that lags leaves the in-sync replicas after 5 s, not 30 s.
        "broker.heartbeat.interval.ms": 500,
        "broker.session.timeout.ms": 3000 if len(nodes) > 1 else 4000,
        "replica.lag.time.max.ms": 5000,
    }
    if len(nodes) < 3:  # Kafka's defaults are for three brokers: these topics have three replicas, two of them in sync
        settings |= {
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
        }
    settings.update(overrides)
    return "".join(f"{name}={value}\n" for name, value in settings.items())
