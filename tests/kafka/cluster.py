"""One or three real Apache Kafka brokers (KRaft, combined mode) that a test may stop, kill, freeze and restart."""

from __future__ import annotations

import asyncio
import atexit
import base64
import os
import random
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from aiokafka.errors import KafkaError

from pipeline.kafka.patches import apply_patches
from tests.kafka import requests
from tests.kafka.jars import program
from tests.kafka.properties import Node, server_properties

BROKER = ("-Xms128m", "-Xmx320m", "-XX:+UseSerialGC")
POLL_S = 0.1

T = TypeVar("T")


class KafkaCluster:
    """Real Kafka under `directory`; a context manager: `with KafkaCluster(3, path) as cluster`.

    brokers: 1, or 3, whose topics have replication 3 and min.insync.replicas 2. Ids run from 1.
    settings: broker properties beside those of `properties.py`, or in their place.
    The methods block until what they say is true, shown by a request to the broker, or raise TimeoutError with the
    end of the broker's log. Data survives stop, kill and restart; ports stay the same until `move`.
    """

    def __init__(self, brokers: Literal[1, 3], directory: Path, settings: Mapping[str, str] | None = None) -> None:
        if brokers not in (1, 3):
            raise ValueError(f"brokers must be 1 or 3, not {brokers}")
        self.directory = directory
        ports = _free_ports(2 * brokers)
        self.nodes = {
            i + 1: Node(i + 1, ports[2 * i], ports[2 * i + 1], directory / f"broker-{i + 1}") for i in range(brokers)
        }
        self.cluster_id = ""
        self._settings = dict(settings or {})
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        program("")  # says at once what is missing

    @property
    def bootstrap(self) -> str:
        """`host:port,…` of every broker, running or not."""
        return ",".join(node.address for node in self.nodes.values())

    @property
    def replication(self) -> int:
        """The replication factor that topics should be created with."""
        return len(self.nodes)

    @property
    def running(self) -> list[int]:
        """Ids of the brokers whose process lives."""
        return [i for i, process in self._processes.items() if process.poll() is None]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, timeout_s: float = 60) -> None:
        """Format every directory and start every broker; returns when each one serves and sees all the others."""
        apply_patches()  # what chaos runs and benchmarks ask about isn't created by asking
        atexit.register(self.close)
        self.cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        formats = [self._format(node) for node in self.nodes.values()]
        for node, process in zip(self.nodes.values(), formats, strict=True):
            if process.wait(timeout_s) != 0:
                raise RuntimeError(f"kafka.tools.StorageTool failed:\n{_end_of(node.log)}")
        for node_id in self.nodes:
            self._spawn(node_id)
        for node_id in self.nodes:
            self._await_ready(node_id, set(self.nodes), timeout_s)

    def start_broker(self, node_id: int, timeout_s: float = 60) -> None:
        """Start one broker that was stopped or killed; returns when it serves and is in sync for all its partitions."""
        if node_id in self.running:
            raise RuntimeError(f"broker {node_id} is running")
        self._spawn(node_id)
        self._await_ready(node_id, {node_id}, timeout_s)
        self.wait_in_sync(timeout_s)

    def stop_broker(self, node_id: int, timeout_s: float = 30) -> None:
        """SIGTERM: a controlled shutdown (leaders move first); SIGKILL if it takes longer than `timeout_s`."""
        self._end(node_id, signal.SIGTERM, timeout_s)

    def kill_broker(self, node_id: int) -> None:
        """SIGKILL: nothing is flushed, nobody is told."""
        self._end(node_id, signal.SIGKILL, 10)

    def freeze_broker(self, node_id: int) -> None:
        """SIGSTOP: its sockets stay open and answer nothing; returns when it has stopped."""
        self._processes[node_id].send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._processes[node_id].pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw_broker(self, node_id: int) -> None:
        """SIGCONT."""
        self._processes[node_id].send_signal(signal.SIGCONT)

    def restart_broker(self, node_id: int, *, kill: bool = False) -> None:
        """Stop (or kill) one broker and start it again."""
        if kill:
            self.kill_broker(node_id)
        else:
            self.stop_broker(node_id)
        self.start_broker(node_id)

    def move(self, timeout_s: float = 120) -> None:
        """Every broker comes back with its data, at another port; returns when each one serves."""
        for node_id in self.running:
            self.kill_broker(node_id)
        ports = _free_ports(len(self.nodes), without={node.port for node in self.nodes.values()})
        self.nodes = {
            node.node_id: replace(node, port=port) for node, port in zip(self.nodes.values(), ports, strict=True)
        }
        for node in self.nodes.values():
            node.properties.write_text(server_properties(node, list(self.nodes.values()), self._settings))
            self._spawn(node.node_id)
        for node_id in self.nodes:
            self._await_ready(node_id, set(self.nodes), timeout_s)

    def wait_in_sync(self, timeout_s: float = 60) -> None:
        """Wait until every replica of every partition that lives on a running broker is in sync."""
        running = set(self.running)

        def in_sync() -> bool:
            return _run(requests.lagging_replicas(self._running_bootstrap(), running)) == []

        self._until(in_sync, timeout_s, "replicas in sync", None)

    def controller(self) -> int:
        """Id of the active controller, the leader of the metadata quorum."""
        answer = subprocess.run(
            program(
                "org.apache.kafka.tools.MetadataQuorumCommand",
                *("--bootstrap-server", self._running_bootstrap(), "describe", "--status"),
            ),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        for line in answer.stdout.splitlines():
            if line.startswith("LeaderId:"):
                return int(line.split()[1])
        raise RuntimeError(f"no LeaderId in {answer.stdout!r}")

    def leader(self, topic: str, partition: int) -> int:
        """Id of the partition's leader; -1 without one."""
        return _run(requests.leader(self._running_bootstrap(), topic, partition))

    def create_topics(self, topics: Mapping[str, int], config: Mapping[str, str] | None = None) -> None:
        """Create topics (name → partitions) as `topics apply` does; returns when each one has leaders."""
        safe = {"min.insync.replicas": "2"} if self.replication >= 3 else {}
        _run(requests.create_topics(self.bootstrap, topics, self.replication, {**safe, **(config or {})}))

    def reset(self) -> None:
        """Delete every topic but Kafka's own and wait until they are gone; a fresh start for the next test.

        Committed offsets of deleted topics go with them.
        """
        _run(requests.delete_all_topics(self.bootstrap))

    def close(self) -> None:
        """Kill every broker; the directories stay. Nobody needs a controlled shutdown of a throw-away cluster."""
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
        for process in self._processes.values():
            process.wait(10)
        self._processes.clear()
        atexit.unregister(self.close)

    def _format(self, node: Node) -> subprocess.Popen[bytes]:
        node.directory.mkdir(parents=True, exist_ok=True)
        node.properties.write_text(server_properties(node, list(self.nodes.values()), self._settings))
        command = program(
            "kafka.tools.StorageTool", "format", f"--cluster-id={self.cluster_id}", "-c", str(node.properties)
        )
        with node.log.open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _spawn(self, node_id: int) -> None:
        node = self.nodes[node_id]
        command = program("kafka.Kafka", str(node.properties), options=BROKER)
        with node.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the test run, which then decides what happens to its brokers.
            self._processes[node_id] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _end(self, node_id: int, how: signal.Signals, timeout_s: float) -> None:
        process = self._processes[node_id]
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)  # a frozen process does not act on SIGTERM
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def _await_ready(self, node_id: int, expected: set[int], timeout_s: float) -> None:
        node = self.nodes[node_id]

        def ready() -> bool:
            # A plain connection first: while the port is closed, the client would log an error for every attempt.
            socket.create_connection(("127.0.0.1", node.port), timeout=1).close()
            return expected <= _run(requests.brokers(node.address))

        self._until(ready, timeout_s, f"broker {node_id} serving", node_id)

    def _until(self, holds: Callable[[], bool], timeout_s: float, what: str, node_id: int | None) -> None:
        deadline = time.monotonic() + timeout_s
        failure = "it answered, but is not there yet"
        while time.monotonic() < deadline:
            if node_id is not None and self._processes[node_id].poll() is not None:
                raise RuntimeError(f"broker {node_id} ended:\n{_end_of(self.nodes[node_id].log)}")
            try:
                if holds():
                    return
            except (KafkaError, OSError, TimeoutError) as error:
                failure = repr(error)
            time.sleep(POLL_S)
        log = _end_of(self.nodes[node_id].log) if node_id is not None else ""
        raise TimeoutError(f"no {what} within {timeout_s} s ({failure})\n{log}")

    def _running_bootstrap(self) -> str:
        return ",".join(self.nodes[i].address for i in self.running)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it on a loop of its own thread: the caller may be inside a running loop, or pytest may own this thread's."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def _free_ports(count: int, without: Collection[int] = ()) -> list[int]:
    """Ports below the range that the kernel gives to outgoing connections, so that none takes a killed broker's."""
    ports: list[int] = []
    candidates = random.SystemRandom().sample(range(15_000, 30_000), 2_000)
    for port in candidates:
        if port in without:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError("no free loopback ports between 15000 and 30000")


def _end_of(log: Path, characters: int = 3000) -> str:
    return log.read_text(errors="replace")[-characters:] if log.exists() else "(no log)"
