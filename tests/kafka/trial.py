"""One run of the product on a real cluster: fresh topics, worker processes, input, and the verdict of the oracle."""

from __future__ import annotations

import asyncio
import re
import shutil
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kafka import pages, requests
from tests.kafka.cluster import KafkaCluster
from tests.kafka.waiting import answered, until
from tests.oracle.generator import Made
from tests.oracle.journal import Journal
from tests.oracle.judge import judge
from tests.oracle.lag import wait_for_lag_zero
from tests.oracle.process import Worker
from tests.oracle.records import AGENT, OUTPUTS, SOURCES, USER_EVENTS
from tests.oracle.report import Report
from tests.oracle.views import unit_directories
from tests.oracle.writer import write

READY = re.compile(r"^ready partitions=(\S+)", re.MULTILINE)
GUARANTEES = ["at_least_once", "exactly_once"]
STOP_WITHIN_S = 10.0


class Trial:
    """`async with Trial(cluster, directory) as trial`: every topic anew, and an application id that nobody used before.

    partitions: of the sources, the outputs and the changelog. agent: which one runs. settings: HARDPARTS_ settings of
    every worker, in lower case. At the end every worker is killed, and a failure carries the ends of their logs.
    """

    def __init__(
        self, cluster: KafkaCluster, directory: Path, *, partitions: int = 4, agent: str = AGENT, **settings: str
    ) -> None:
        self.cluster, self.directory, self.partitions, self.agent = cluster, directory, partitions, agent
        self.app_id = f"trial-{uuid.uuid4().hex[:8]}"
        self.data = directory / "data"
        self.workers: dict[str, Worker] = {}
        self._settings = {
            "broker": cluster.bootstrap,
            "app_id": self.app_id,
            "data_dir": str(self.data),
            "partitions": str(partitions),
            "replication": str(cluster.replication),
            "agents": agent,
            "session_timeout_s": "3",
            **settings,
        }

    @property
    def changelog(self) -> str:
        """The agent's changelog topic."""
        return f"{self.app_id}-{self.agent}-changelog"

    @property
    def errors(self) -> str:
        """The error topic."""
        return f"{self.app_id}.errors"

    async def __aenter__(self) -> Self:
        self.cluster.reset()
        self.create(*SOURCES, *OUTPUTS, self.errors, f"{self.app_id}.audit")
        self.cluster.create_topics({self.changelog: self.partitions}, {"cleanup.policy": "compact"})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for worker in self.workers.values():
            if worker.alive:
                worker.kill()
            if error is not None:
                error.add_note(f"--- {worker.instance}:\n{worker.end_of_log(3000)}")

    def create(self, *topics: str) -> None:
        """Create topics of the trial's partition count."""
        self.cluster.create_topics(dict.fromkeys(topics, self.partitions))

    # ------------------------------------------------------------------ workers

    def worker(self, instance: str, **settings: str) -> Worker:
        """A worker that is not started yet; asked for again, `instance` gets a new one with these settings."""
        names = {**self._settings, **settings}
        environment = {f"HARDPARTS_{name.upper()}": value for name, value in names.items()}
        self.workers[instance] = worker = Worker(instance, self.directory / f"{instance}.log", environment)
        return worker

    async def start(self, *workers: Worker, timeout_s: float = 60) -> None:
        """Start them side by side and wait until each is ready."""
        for worker in workers:
            worker.start()
        for worker in workers:
            await asyncio.to_thread(worker.wait_ready, timeout_s)

    async def stop(self, *workers: Worker) -> None:
        """SIGTERM to all of them at once; each must end with status 0 inside the time."""
        codes = await asyncio.gather(*(asyncio.to_thread(worker.stop, STOP_WITHIN_S) for worker in workers))
        assert codes == [0] * len(workers), dict(zip((w.instance for w in workers), codes, strict=True))

    def wipe(self, worker: Worker) -> None:
        """Empty the disk of a worker that is not running; it must have had something on it."""
        assert not worker.alive
        assert unit_directories(self.data, worker.instance), f"{worker.instance} had no state to lose"
        shutil.rmtree(self.data / self.app_id / worker.instance)

    def takeovers(self, worker: Worker) -> list[set[int]]:
        """The partitions of each `ready` line of a worker, oldest first."""
        found = READY.findall(worker.log.read_text(errors="replace")) if worker.log.exists() else []
        return [set() if shown == "none" else {int(number) for number in shown.split(",")} for shown in found]

    def owned(self, worker: Worker) -> set[int]:
        """The partitions that it said last."""
        return self.takeovers(worker)[-1]

    async def shared(self, *workers: Worker, timeout_s: float = 60) -> None:
        """Wait until these workers own every partition between them, each its own."""

        async def split() -> bool:
            said = [await pages.ready(worker) for worker in workers]
            parts = sorted(number for one in said if one["ready"] for number in one["partitions"])
            return all(one["ready"] for one in said) and parts == list(range(self.partitions))

        await until(split, timeout_s, f"{', '.join(w.instance for w in workers)} share {self.partitions} partitions")

    async def rejoined(self, worker: Worker, takeovers: int, timeout_s: float = 60) -> None:
        """Wait until it says `ready` once more than `takeovers` times."""
        await until(lambda: len(self.takeovers(worker)) > takeovers, timeout_s, f"{worker.instance} is ready again")

    # ------------------------------------------------------------------ input and verdict

    async def write(
        self,
        records: Iterable[Made],
        journal: Journal | None = None,
        rate: float | None = None,
        place: Callable[[Made], int | None] | None = None,
    ) -> Journal:
        """Produce them; see `tests.oracle.writer.write`."""
        return await write(self.cluster.bootstrap, records, self.partitions, rate=rate, journal=journal, place=place)

    async def caught_up(self, timeout_s: float = 90) -> float:
        """Wait for lag 0; the seconds it took."""
        return await wait_for_lag_zero(self.cluster.bootstrap, self.app_id, SOURCES, timeout_s)

    async def committed(self) -> dict[tuple[str, int], int]:
        """(topic, partition) → committed offset, where there is one."""
        return await answered(lambda: requests.committed(self.cluster.bootstrap, self.app_id))

    async def committed_more_than(self, records: float, timeout_s: float = 60) -> None:
        """Wait until the group's offsets add up to more than this: it advances."""

        async def advanced() -> bool:
            return sum((await self.committed()).values()) > records

        await until(advanced, timeout_s, f"more than {records} records committed")

    async def each_advances(self, timeout_s: float = 90) -> None:
        """Wait until the group has committed more than now in each partition of the user events."""
        before = await self.committed()

        async def advanced() -> bool:
            now = await self.committed()
            return all(now.get((USER_EVENTS, n), 0) > before.get((USER_EVENTS, n), 0) for n in range(self.partitions))

        await until(advanced, timeout_s, f"each partition beyond {before}")

    async def leader_of_changelog(self) -> int:
        """Id of the broker that leads the changelog's partition 0."""
        return await asyncio.to_thread(self.cluster.leader, self.changelog, 0)

    async def coordinator(self) -> int:
        """Id of the broker that coordinates the workers' group."""
        return await answered(lambda: requests.coordinator(self.cluster.bootstrap, self.app_id))

    async def judged(self, journal: Journal, timeout_s: float = 90) -> Report:
        """Lag 0 within the time, all workers stopped with status 0, then four views against the oracle.

        The views: the changelog folded; each partition's RocksDB on its owner's disk; that of a fresh worker with an
        empty disk; and what the oracle computes from the input.
        """
        await self.caught_up(timeout_s)
        running = [worker for worker in self.workers.values() if worker.alive]
        await self.shared(*running)
        owners = {
            number: unit_directories(self.data, worker.instance)[number]
            for worker in running
            for number in self.owned(worker)
        }
        await self.stop(*running)
        fresh = self.worker(f"fresh-{uuid.uuid4().hex[:4]}")
        await self.start(fresh)
        await self.stop(fresh)
        disks = {"owners": owners, "fresh": unit_directories(self.data, fresh.instance)}
        assert all(set(directories) == set(range(self.partitions)) for directories in disks.values()), disks
        exactly_once = self._settings.get("processing_guarantee") == "exactly_once"
        return await judge(
            self.cluster.bootstrap, self.app_id, disks=disks, journal=journal, audit=True, exactly_once=exactly_once
        )

    async def verdict(self, journal: Journal) -> Report:
        """The judgement (see `judged`), which must find nothing."""
        report = await self.judged(journal)
        print(report)
        assert report.ok, str(report)
        return report
