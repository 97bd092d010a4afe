"""Standby replicas: copies of units that other workers own, kept up with their changelogs on this worker's disk.

Faust's assignor says which (HARDPARTS_STANDBY_REPLICAS), and prefers them when an owner goes away: what is left to read
then is what the copy has not applied yet.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from typing import Any

from pipeline.closing import ended
from pipeline.core.origin import ChangelogFromNewerVersion
from pipeline.runtime.context import Context
from pipeline.runtime.recovery import Changelogs, ChangelogTruncated, Restoring, keep_fresh, reading
from pipeline.runtime.store import StoreFailed

log = logging.getLogger("hardparts.standby")

AGAIN_AFTER_S = 5.0
HEARD_WITHIN_S = 10.0
"""An end of the changelog that the broker said longer ago doesn't show that a copy is whole."""


class Standbys:
    """The copies of this worker. While they are followed their directories are open: stop before a takeover."""

    def __init__(self, context: Context, cache: Any) -> None:
        self._context, self._cache = context, cache
        self._following: asyncio.Task[None] | None = None
        self._copies: list[Restoring] = []

    def follow(self, copies: Iterable[Restoring]) -> None:
        """Read the changelogs of these on and on. They are closed by `stop`."""
        assert self._following is None, "stop first"
        self._copies = list(copies)
        if self._copies:
            self._following = asyncio.get_running_loop().create_task(self._follow(), name="standbys")

    async def stop(self) -> None:
        """Stop reading and close the copies: each stands where its offset says."""
        following, self._following = self._following, None
        if following is not None:
            await ended(following)
        while self._copies:
            self._close(self._copies.pop())

    async def _follow(self) -> None:
        """A copy that can't be kept is left out; whatever else fails is tried again: nothing depends on a copy."""
        while self._copies:
            context = self._context
            try:
                async with reading(context.bootstrap, context.security, self._copies, self._cache) as changelogs:
                    await self._keep_up(changelogs)
            except Exception as error:  # noqa: BLE001 - a broker that is away, mostly
                log.warning("standbys: %s: %s; again in %.0f s", type(error).__name__, error, AGAIN_AFTER_S)
            for copy in self._copies:
                self._forget(copy)
            await asyncio.sleep(AGAIN_AFTER_S)

    async def _keep_up(self, changelogs: Changelogs) -> None:
        try:
            await changelogs.begin()
            while True:
                await changelogs.apply_next(changelogs.units)
                for tp, copy in changelogs.units.items():
                    if (behind := await changelogs.behind(tp)) is not None:
                        self._context.metrics.standby_behind.labels(*_labels(copy)).set(behind)
                        if behind == 0 and changelogs.heard_s(tp) < HEARD_WITHIN_S:
                            keep_fresh([copy.store])  # as whole as the owner's, however long nothing came
        except (StoreFailed, ChangelogTruncated, ChangelogFromNewerVersion) as error:
            bad = changelogs.at
            assert bad is not None
            log.warning("%s: no standby here: %s", bad.name, error)
            self._copies = [copy for copy in self._copies if copy is not bad]
            self._close(bad)

    def _close(self, copy: Restoring) -> None:
        self._forget(copy)
        copy.store.close()

    def _forget(self, copy: Restoring) -> None:
        with contextlib.suppress(KeyError):
            self._context.metrics.standby_behind.remove(*_labels(copy))


def _labels(copy: Restoring) -> tuple[str, str]:
    agent, _, partition = copy.name.rpartition("/")
    return agent, partition
