"""Two instances under input that goes on, each replaced by the other version in turn on the directory that it has."""

from __future__ import annotations

from itertools import chain

from tests.kafka.feed import Feed
from tests.kafka.trial import Trial
from tests.kafka.waiting import until
from tests.oracle.process import Worker, WorkerEnded
from tests.upgrade.refusal import refuses_by_name
from tests.upgrade.versions import Version

RECORDS_BETWEEN = 500
"""Records written between two replacements: a second of input."""


class Rolling:
    """`versions`: instance → what it runs now."""

    def __init__(self, trial: Trial, **versions: Version) -> None:
        self.versions = dict(versions)
        self._trial = trial
        self._workers: dict[str, Worker] = {}

    async def start(self) -> None:
        """Start every instance; returns when they share the partitions and each is what it should be."""
        for name, version in self.versions.items():
            self._workers[name] = version.put_on(self._trial.worker(name))
        await self._trial.start(*self._workers.values())
        await self._share()

    async def replace(self, name: str, version: Version, feed: Feed, *, kill: bool = False) -> None:
        """SIGTERM (or SIGKILL), then `version` on the same directory, in mid-stream.

        Returns when both instances own partitions, each runs what it should, and every partition has advanced.
        Raises WorkerEnded when the new process ends.
        """
        await feed.more(RECORDS_BETWEEN)
        before = feed.journal.acked
        if kill:
            self._workers[name].kill()
        else:
            await self._trial.stop(self._workers[name])
        self._workers[name] = version.put_on(self._trial.worker(name))
        await self._trial.start(self._workers[name])
        assert feed.flowing, "the input ended before the replacement"
        assert feed.journal.acked > before, "no input arrived during the replacement"
        self.versions[name] = version
        await self._share()
        await self._trial.each_advances()

    async def goes_back(self, name: str, version: Version, feed: Feed, *, kill: bool = False) -> bool:
        """Replace it by an older version. False when that one refuses by name: then the newer one runs again."""
        newer = self.versions[name]
        try:
            await self.replace(name, version, feed, kill=kill)
        except WorkerEnded:
            refused = self._workers[name]
            if not refuses_by_name(refused):
                raise
            print(f"{version.name} {name} refuses by name:\n{refused.end_of_log(500)}")
            self._workers[name] = newer.put_on(self._trial.worker(name))
            await self._trial.start(self._workers[name])
            await self._share()
            return False
        return True

    async def _share(self) -> None:
        """Wait until each instance owns some of the partitions, as it says itself, and check which code each runs."""
        workers = list(self._workers.values())
        await self._trial.shared(*workers)

        def each_owns() -> bool:
            owned = [self._trial.owned(worker) for worker in workers]
            return all(owned) and sorted(chain(*owned)) == list(range(self._trial.partitions))

        await until(each_owns, 10, "each instance says that it owns partitions")
        for name, version in self.versions.items():
            assert self._workers[name].alive, f"{name} ended"
            assert version.runs_in(self._workers[name]), f"{name} doesn't run the {version.name} version"
