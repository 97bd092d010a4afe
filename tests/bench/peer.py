"""Who is compared, and one run of one of them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from .kafka_topics import create_topic, delete_topics
from .process import PeerProcess
from .workload import INPUT_TOPIC

OUR_OUTPUT_TOPIC = "comment-counts"
OUR_OUTPUT_TOPICS = (OUR_OUTPUT_TOPIC, "messages", "notifications")
OUR_AGENT = "user-events"
RUN_PREFIX = "bench-"  # of every app id: what carries it may be deleted


@dataclass(frozen=True, slots=True)
class Peer:
    """A program of the comparison. `needs` is the module it can't run without; `ours` is the product itself.
    `settings` are environment variables of it alone.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    needs: str = "aiokafka"
    ours: bool = False
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def installed(self) -> bool:
        """Whether this environment can run it."""
        return find_spec(self.needs) is not None


OURS = Peer("ours", "hardparts worker", ("-m", "pipeline", "worker", "--instance", "bench"), "pipeline", ours=True)
ONCE = Peer(
    "exactly_once", "hardparts worker, exactly_once", OURS.arguments, "pipeline", ours=True,
    settings=(("HARDPARTS_PROCESSING_GUARANTEE", "exactly_once"),),
)  # fmt: skip
STOCK = Peer("stock", "stock Faust, two tables", ("-m", "tests.bench.peers.stock_faust", "worker"), "faust")
QUIX = Peer("quix", "Quix Streams", ("-m", "tests.bench.peers.quix"), "quixstreams")
BARE = Peer("bare", "bare aiokafka loop", ("-m", "tests.bench.peers.bare_aiokafka"))
ECHO = Peer("echo", "consume-and-produce echo", ("-m", "tests.bench.peers.echo"))
COMPARED = {peer.name: peer for peer in (OURS, ONCE, BARE, QUIX, STOCK)}


@dataclass(frozen=True, slots=True)
class Site:
    """The broker (`host:port`), the partition count of every topic, and a directory for state and logs."""

    bootstrap: str
    partitions: int
    directory: Path

    def environment(self, app_id: str, output_topic: str, data_directory: Path) -> dict[str, str]:
        """Settings of a run, in our variables and in those of the other peers."""
        return {
            "BENCH_BOOTSTRAP": self.bootstrap,
            "BENCH_APP_ID": app_id,
            "BENCH_INPUT": INPUT_TOPIC,
            "BENCH_OUTPUT": output_topic,
            "BENCH_PARTITIONS": str(self.partitions),
            "BENCH_DATA_DIR": str(data_directory),
            "HARDPARTS_BROKER": f"kafka://{self.bootstrap}",
            "HARDPARTS_APP_ID": app_id,
            "HARDPARTS_DATA_DIR": str(data_directory),
            "HARDPARTS_PARTITIONS": str(self.partitions),
            "HARDPARTS_WEB_PORT": str(_free_port()),
            "HARDPARTS_AGENTS": OUR_AGENT,  # only the agent that does the compared work
        }


@dataclass(frozen=True, slots=True)
class Run:
    """A prepared run: its topics exist and its state directory is empty."""

    peer: Peer
    app_id: str
    output_topic: str
    process: PeerProcess

    async def clean_up(self, site: Site) -> None:
        """Delete the topics that the run made."""
        await delete_topics(site.bootstrap, names=[self.output_topic], containing=self.app_id)


async def apply_topics(site: Site, app_id: str) -> None:
    """Let our own command create the topics that our worker needs; some are named after its app id."""
    with TemporaryDirectory(prefix="topics-", dir=site.directory) as directory:
        environment = site.environment(app_id, OUR_OUTPUT_TOPIC, Path(directory))
        command = PeerProcess(("-m", "pipeline", "topics", "apply"), environment, Path(directory) / "log")
        with command:
            code = command.process.wait(60)
        if code != 0:
            raise RuntimeError(f"`hardparts topics apply` ended with {code}:\n{command.log_tail()}")


@contextmanager
def _state(site: Site) -> Iterator[Path]:
    with TemporaryDirectory(prefix="run-", dir=site.directory, ignore_cleanup_errors=True) as directory:
        yield Path(directory)


class Preparation:
    """Topics and state for one run. Use as an async context manager; leaving it deletes both."""

    def __init__(self, peer: Peer, site: Site) -> None:
        """For one run of `peer` at `site`."""
        self.peer, self.site = peer, site
        self._state = _state(site)

    async def __aenter__(self) -> Run:
        app_id = f"{RUN_PREFIX}{self.peer.name}-{uuid4().hex[:8]}"
        output_topic = OUR_OUTPUT_TOPIC if self.peer.ours else f"{app_id}-output"
        if self.peer.ours:
            await delete_topics(self.site.bootstrap, names=OUR_OUTPUT_TOPICS)
            await apply_topics(self.site, app_id)
        else:
            await create_topic(self.site.bootstrap, output_topic, self.site.partitions)
        if self.peer.name == "bare":
            await create_topic(self.site.bootstrap, f"{app_id}-changelog", self.site.partitions)
        directory = self._state.__enter__()
        environment = {**self.site.environment(app_id, output_topic, directory / "data"), **dict(self.peer.settings)}
        self.run = Run(
            self.peer, app_id, output_topic, PeerProcess(self.peer.arguments, environment, directory / "log")
        )
        return self.run

    async def __aexit__(self, *_: object) -> None:
        await self.run.clean_up(self.site)
        self._state.__exit__(None, None, None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
