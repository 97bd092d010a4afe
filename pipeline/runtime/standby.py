"""Standby replicas: copies of units that other workers own, kept up with their changelogs on this worker's disk.

Faust's assignor says which (HARDPARTS_STANDBY_REPLICAS), and prefers them when an owner goes away: what is left to read
then is what the copy has not applied yet.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

from aiokafka.errors import KafkaError

from pipeline.runtime.context import Context
from pipeline.runtime.recovery import ChangelogTruncated, Restoring, reading
from pipeline.runtime.store import StoreFailed

log = logging.getLogger("hardparts.standby")

AGAIN_AFTER_S = 5.0
UNBOUNDED = 2**63 - 1


class Standbys:
    """The copies of this worker. While they are followed their directories are open: stop before a takeover."""

    def __init__(self, context: Context, cache: Any) -> None:
        self._context, self._cache = context, cache
        self._following: asyncio.Task[None] | None = None
        self._copies: Sequence[Restoring] = ()

    def follow(self, copies: Sequence[Restoring]) -> None:
        """Read the changelogs of these on and on. They are closed by `stop`."""
        assert self._following is None, "stop first"
        if copies:
            self._copies = copies
            self._following = asyncio.get_running_loop().create_task(self._follow(copies), name="standbys")

    async def stop(self) -> None:
        """Stop reading and close the copies: each stands where its offset says."""
        following, self._following = self._following, None
        copies, self._copies = self._copies, ()
        if following is not None:
            following.cancel()
            await asyncio.wait([following])
        for copy in copies:
            copy.store.close()
            with contextlib.suppress(KeyError):
                self._context.metrics.standby_behind.remove(*self._labels(copy))

    async def _follow(self, copies: Sequence[Restoring]) -> None:
        """A copy that can't be kept is of no use, and nothing else depends on it: whatever fails is tried again."""
        while True:
            try:
                async with reading(self._context.bootstrap, self._context.security, copies, self._cache) as changelogs:
                    while True:
                        await changelogs.apply_next(changelogs.units)
                        for tp, copy in changelogs.units.items():
                            if (behind := await changelogs.behind(tp)) is not None:
                                self._context.metrics.standby_behind.labels(*self._labels(copy)).set(behind)
            except (KafkaError, OSError, StoreFailed, ChangelogTruncated) as error:
                log.warning("standbys: %s: %s; again in %.0f s", type(error).__name__, error, AGAIN_AFTER_S)
            except Exception:
                log.exception("standbys; again in %.0f s", AGAIN_AFTER_S)
            await asyncio.sleep(AGAIN_AFTER_S)

    @staticmethod
    def _labels(copy: Restoring) -> tuple[str, str]:
        agent, _, partition = copy.name.rpartition("/")
        return agent, partition
