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
    """`server.properties` of `node` in a cluster of `nodes`; `overrides` win."""
    replication = min(3, len(nodes))
    in_sync = 2 if replication == 3 else 1
    settings = {
        "process.roles": "broker,controller",
        "node.id": node.node_id,
        "controller.quorum.voters": ",".join(f"{n.node_id}@127.0.0.1:{n.controller_port}" for n in nodes),
        "listeners": f"PLAINTEXT://{node.address},CONTROLLER://127.0.0.1:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{node.address}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": node.directory / "data",
        "auto.create.topics.enable": "false",
        "default.replication.factor": replication,
        "min.insync.replicas": in_sync,
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": replication,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": replication,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": replication,
        "share.coordinator.state.topic.min.isr": in_sync,
        # The tests fail workers over in seconds: groups settle at once and may ask for short sessions.
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # A dead broker is noticed in seconds; a killed one may register again only after that time.
        "broker.heartbeat.interval.ms": 500,
        "broker.session.timeout.ms": 3000 if len(nodes) > 1 else 4000,
        "replica.lag.time.max.ms": 5000,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "num.recovery.threads.per.data.dir": 2,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "log.segment.delete.delay.ms": 1000,
    }
    settings.update(overrides)
    return "".join(f"{name}={value}\n" for name, value in settings.items())
