"""The workers of a demo: started together, replaced when killed, all stopped at the end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from pipeline.demo.cluster import Cluster
from pipeline.demo.view import View
from pipeline.demo.workers import Worker


class Crew:
    """`members` are the workers in the order in which they were started, killed ones too."""

    def __init__(self, where: Cluster, view: View, webhook: str) -> None:
        self._where, self._view, self._webhook = where, view, webhook
        self._numbers = count(1)
        self.members: list[Worker] = []

    async def hire(self) -> Worker:
        """Start one more worker; it isn't ready yet."""
        name = f"worker-{next(self._numbers)}"
        worker = Worker(name, self._where.directory / f"{name}.log")
        self.members.append(worker)
        settings = {"app": "agents.app:app", "alert_webhook": self._webhook}
        await worker.start(self._where.environment(**settings), self._announce)
        return worker

    def require_alive(self) -> None:
        """WorkerDied when one ended that nobody stopped."""
        for worker in self.members:
            worker.require_alive()

    def log_with(self, text: str) -> str:
        """Name of the log that has this text and was written to last; "" for none."""
        logs = [worker.log for worker in self.members if text in worker.log.read_text(errors="replace")]
        return max(logs, key=lambda log: log.stat().st_mtime_ns).name if logs else ""

    async def stop(self) -> None:
        """Stop all that run, finishing what is in hand."""
        await asyncio.gather(*(worker.stop() for worker in self.members))

    def _announce(self, worker: Worker) -> None:
        shown = ", ".join(map(str, worker.partitions or ())) or "none"
        self._view.note("ready", f"{worker.name} has partitions {shown}")


@asynccontextmanager
async def crew(where: Cluster, view: View, webhook: str, size: int) -> AsyncIterator[Crew]:
    """A crew of `size` workers, all ready; they end with the block. WorkerDied."""
    hired = Crew(where, view, webhook)
    try:
        for _ in range(size):
            await hired.hire()
        await asyncio.gather(*(worker.ready() for worker in hired.members))
        yield hired
    finally:
        await hired.stop()
