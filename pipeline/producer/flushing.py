"""The disk's side of a producer: group commit, the periodic test of the directory, space given back."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pipeline.producer.buffer import Buffer
from pipeline.producer.errors import SpillUnusable
from pipeline.producer.lane import Lane
from pipeline.producer.spill import Spill

log = logging.getLogger("hardparts.producer")

COMPACT_AFTER_BYTES = 64 << 20
SLICE_MESSAGES = 2_000
"""So many are written before others get their turn on the event loop."""


class Flushing:
    """Writes and flushes what comes in durable mode: all callers who came while one flush ran share the next."""

    def __init__(self, buffer: Buffer, spill: Spill, *, check_s: float) -> None:
        self._buffer, self._spill, self._check_s = buffer, spill, check_s
        self._dirty: set[Lane] = set()
        self._some = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "hardparts-spill")
        self._compacting: asyncio.Future[None] | None = None

    def add(self, lane: Lane) -> None:
        """There is something new in this lane."""
        self._dirty.add(lane)
        self._some.set()

    async def rounds(self) -> None:
        """Write, flush, accept; for ever."""
        while True:
            await self._some.wait()
            self._some.clear()
            if self._buffer.trouble is not None:
                continue  # `watch` wakes this when the disk works again
            lanes, self._dirty = self._dirty, set()
            try:
                await self._write(lanes)
                await self._in_thread(self._spill.sync)
            except SpillUnusable as error:
                self._dirty |= lanes
                self._buffer.failing(error)
                continue
            except BaseException:
                self._dirty |= lanes
                self._some.set()  # whoever starts this again needn't wait for another message
                raise
            for lane in lanes:
                self._buffer.accept(lane)

    async def watch(self) -> None:
        """The real write again and again; after a failure RocksDB is opened anew once that works."""
        while True:
            await asyncio.sleep(self._check_s)
            await self.check()
            # What is alive is written anew before the old is given back: only when that is the smaller part.
            alive = self._buffer.disk_bytes
            short = self._buffer.trouble is not None and alive * 2 <= self._buffer.limits.disk_free_bytes_min
            if short or self._spill.removed_bytes > max(alive, COMPACT_AFTER_BYTES):
                self._compact()

    async def check(self) -> None:
        """One such test."""
        try:
            await self._in_thread(self._spill.check)
            if self._buffer.trouble is not None:
                if self._compacting is not None:
                    await asyncio.wait([self._compacting])
                self._spill.reopen()
                self._buffer.working()
                self._some.set()
        except SpillUnusable as error:
            self._buffer.failing(error)

    def _compact(self) -> None:
        """Give the space of removed rows back, meanwhile."""
        if self._compacting is None or self._compacting.done():
            self._compacting = asyncio.get_running_loop().run_in_executor(None, self._spill.compact)

    async def close(self) -> None:
        """Wait for what runs in threads; who is cancelled meanwhile still waits: the files are closed afterwards."""
        waiting = {asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)}
        if self._compacting is not None:
            waiting.add(self._compacting)
        cancelled = None
        while waiting:
            try:
                _, waiting = await asyncio.wait(waiting)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _write(self, lanes: set[Lane]) -> None:
        self._spill.room()
        written = 0
        for lane in lanes:
            written += self._buffer.write_tail(lane)
            if written >= SLICE_MESSAGES:
                written = 0
                await asyncio.sleep(0)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        """Run it to its end, also when we are cancelled: nobody else may touch the files meanwhile."""
        running = asyncio.get_running_loop().run_in_executor(self._thread, work)
        await asyncio.shield(running)
