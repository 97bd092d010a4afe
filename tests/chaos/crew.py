"""The workers of a run: two that are killed and come back, and a guest that joins and leaves."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress

from tests.chaos.launch import launched
from tests.chaos.plan import Which
from tests.kafka.trial import Trial
from tests.kafka.waiting import until
from tests.oracle.process import Worker, WorkerEnded

MEMBERS = ("one", "two")
GUEST = "guest"
ENDED_BY_US = (0, -signal.SIGKILL)
STRUCK_WITHIN_S = 90.0
STOPPED_WITHIN_S = 30.0


class Crew:
    """Which workers live, the eldest first; every start and stop of the run goes through here."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self._order: list[Worker] = []

    @property
    def alive(self) -> list[Worker]:
        """The living, the eldest first, the guest among them; AssertionError when one ended by itself."""
        for worker in self._order:
            if not worker.alive:
                code = worker.process.returncode
                assert code in ENDED_BY_US, f"{worker.instance} ended by itself, with {code}:\n{worker.end_of_log()}"
        self._order = [worker for worker in self._order if worker.alive]
        return list(self._order)

    @property
    def members(self) -> list[Worker]:
        """The living without the guest."""
        return [worker for worker in self.alive if worker.instance in MEMBERS]

    def pick(self, which: Which) -> Worker:
        """A living member by age."""
        return self.members[0 if which == "elder" else -1]

    def others(self, worker: Worker) -> list[Worker]:
        """The living but this one."""
        return [other for other in self.alive if other is not worker]

    async def whole(self) -> None:
        """Both members run and are ready."""
        for worker in [await self.begin() for _ in range(len(MEMBERS) - len(self.members))]:
            await asyncio.to_thread(worker.wait_ready, 90)

    async def begin(self, launch: Mapping[str, str] | None = None, **settings: str) -> Worker:
        """Start the member that is down (with none down, the youngest is stopped by SIGTERM first); not waited for.

        launch: variables of `tests.chaos.launch`, through which it then starts.
        """
        if len(self.members) == len(MEMBERS):
            await self.stop(self.pick("younger"))
        living = {worker.instance for worker in self.members}
        name = next(name for name in MEMBERS if name not in living)
        worker = self.trial.worker(name, **settings)
        if launch:
            launched(worker, **launch)
        self._order.append(worker.start())
        return worker

    async def ready_or_gone(self, worker: Worker) -> None:
        """Wait until it is ready, unless it dies on the way."""
        with suppress(WorkerEnded):
            await asyncio.to_thread(worker.wait_ready, 90)

    async def stop(self, worker: Worker) -> None:
        """SIGTERM; it must end with status 0."""
        code = await asyncio.to_thread(worker.stop, STOPPED_WITHIN_S)
        assert code == 0, f"{worker.instance} ended with status {code} after SIGTERM:\n{worker.end_of_log()}"

    async def guest_changes(self) -> str:
        """The guest joins, or leaves when it is here: everybody's partitions are taken and given again."""
        for worker in self.alive:
            if worker.instance == GUEST:
                await self.stop(worker)
                return "the guest left"
        guest = self.trial.worker(GUEST).start()
        self._order.append(guest)
        await asyncio.to_thread(guest.wait_ready, 90)
        return "the guest joined"

    async def struck(self, worker: Worker) -> None:
        """Wait until it has died by SIGKILL: its armed point was reached."""
        code = await asyncio.to_thread(worker.process.wait, STRUCK_WITHIN_S)
        assert code == -signal.SIGKILL, f"{worker.instance} ended with {code}:\n{worker.end_of_log()}"

    async def stopped(self, worker: Worker) -> None:
        """Wait until SIGSTOP has stopped it."""

        def is_stopped() -> bool:
            how = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
            found = os.waitid(os.P_PID, worker.process.pid, how)
            return found is not None and found.si_code == os.CLD_STOPPED

        await until(is_stopped, STRUCK_WITHIN_S, f"{worker.instance} has stopped at its point")

    async def settled(self) -> None:
        """The living share every partition between them."""
        await self.trial.shared(*self.alive, timeout_s=90)
