"""Rebuilding a unit's rows from its changelog: batches of bytes into write batches, nothing is decoded."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from pipeline.closing import stopped
from pipeline.core.errors import HardpartsError
from pipeline.runtime.store import FENCE, Store, StoreDamaged, renewed

log = logging.getLogger("hardparts.recovery")

FETCH_BYTES = 4 << 20
ROWS_AT_ONCE = 5_000
"""Applied before the event loop goes on with something else: whole fetches held it up for seconds on a busy machine."""
STALLED_AFTER_S = 60.0
STOP_WITHIN_S = 1.0
STATE_AGE_MAX_S = 3.5 * 24 * 3600
"""Half of the changelog's delete.retention.ms (7 days): an older copy may have missed a tombstone."""
TOUCH_EVERY_S = 3600.0
EMBEDDED_CLUSTER = "hardparts"
"""Cluster id of the embedded broker. Its compaction moves the start of a log; Kafka's never does."""


@dataclass(slots=True)
class Restoring:
    """One store on its way up to its fence, the record at offset `fence`."""

    name: str
    changelog: str
    partition: int
    store: Store
    fence: int

    @property
    def tp(self) -> TopicPartition:
        """Its changelog topic-partition."""
        return TopicPartition(self.changelog, self.partition)


class ChangelogTruncated(HardpartsError):
    """The changelog no longer holds the rows that this unit needs: state rebuilt from it would be wrong."""


class RecoveryStalled(Exception):
    """No changelog record arrived for a long time."""


async def restore(bootstrap: list[str], security: dict[str, Any], units: Sequence[Restoring], cache: Any) -> None:
    """Read each changelog until its unit's fence has been applied. A local copy that is old is deleted and one that is
    damaged set aside; both are rebuilt. Raises ChangelogTruncated when the changelog can't give what is missing here.
    """
    if not units:
        return
    async with reading(bootstrap, security, units, cache) as changelogs:
        await changelogs.begin(bootstrap, security)
        news_at, waiting = time.monotonic(), set(changelogs.units)
        while waiting:
            applied = await changelogs.apply_next(waiting)
            if applied:
                news_at = time.monotonic()
            elif time.monotonic() - news_at > STALLED_AFTER_S:
                raise RecoveryStalled(f"no changelog record for {STALLED_AFTER_S:.0f} s: {sorted(map(str, waiting))}")
            waiting -= {tp for tp, last in applied.items() if last >= changelogs.units[tp].fence}


@contextlib.asynccontextmanager
async def reading(
    bootstrap: list[str], security: dict[str, Any], units: Sequence[Restoring], cache: Any
) -> AsyncIterator["Changelogs"]:
    """The changelogs of these units; `begin` them first."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=50,
        **security,
    )
    try:
        await consumer.start()
        changelogs = Changelogs(consumer, units, cache)
        yield changelogs
    finally:
        if not await stopped(consumer.stop(), STOP_WITHIN_S):
            await stopped(consumer._client.close(), STOP_WITHIN_S)  # it didn't get there


class Changelogs:
    """What is read by one consumer: the units' changelog topic-partitions. `at`: the unit that is being looked at."""

    def __init__(self, consumer: AIOKafkaConsumer, units: Sequence[Restoring], cache: Any) -> None:
        self._consumer, self._cache = consumer, cache
        self.units = {unit.tp: unit for unit in units}
        self._rebuilt: set[TopicPartition] = set()
        self._beginnings: dict[TopicPartition, int] = {}
        self._moves = False
        self.at: Restoring | None = None

    async def begin(self, bootstrap: list[str], security: dict[str, Any]) -> None:
        """Seek to where each local copy goes on. Raises ChangelogTruncated, StoreFailed for the unit `at`."""
        self._consumer.assign(list(self.units))
        self._beginnings = await self._consumer.beginning_offsets(list(self.units))
        self._moves = any(self._beginnings.values()) and await _compaction_moves_start(bootstrap, security)
        for tp in self.units:
            self._seek(tp)

    def _seek(self, tp: TopicPartition) -> None:
        self.at = self.units[tp]
        self._consumer.seek(tp, _start(self.units[tp], self._beginnings[tp], self._cache, self._moves))

    async def apply_next(self, wanted: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Apply what has arrived of these, waiting a second at most; the last offset applied of each that moved."""
        applied = {}
        for tp, records in (await self._consumer.getmany(*wanted, timeout_ms=1000, max_records=ROWS_AT_ONCE)).items():
            unit = self.at = self.units[tp]
            rows = ((record.key, record.value) for record in records if record.key is not None and record.key != FENCE)
            try:
                unit.store.apply(rows, records[-1].offset + 1)
            except StoreDamaged as error:
                if tp in self._rebuilt:
                    raise  # the disk damages what it is given
                self._rebuilt.add(tp)
                log.warning("%s: local state is damaged, set aside and rebuilt: %s", unit.name, error)
                unit.store = renewed(unit.store, self._cache, keep=True)
                self._seek(tp)
                continue
            applied[tp] = records[-1].offset
            await asyncio.sleep(0)
        return applied

    async def behind(self, tp: TopicPartition) -> int | None:
        """Offsets of the changelog that are not applied here; None before the broker said where it ends."""
        end = self._consumer.highwater(tp)
        return None if end is None else max(end - await self._consumer.position(tp), 0)


def _start(unit: Restoring, beginning: int, cache: Any, moves: bool = False) -> int:
    """The changelog offset to read from. moves: the broker's compaction moves the start of a log."""
    store = unit.store
    offset, age_s = store.offset, time.time() - store.written_at_s
    reason = None
    if offset is None:
        reason = "there is none"
    elif not beginning <= offset <= unit.fence:
        reason = f"its offset {offset} is outside the changelog [{beginning}, {unit.fence}]"
    elif age_s > STATE_AGE_MAX_S:
        reason = f"it is {age_s / 86400:.1f} days old"
    if reason is None:
        assert offset is not None
        return offset
    if beginning > 0 and not moves:
        raise ChangelogTruncated(
            f"{unit.name}: {unit.changelog}[{unit.partition}] begins at offset {beginning}, what was before has been "
            f"deleted (compaction doesn't), and the local state can't stand in for it: {reason}"
        )
    if offset is not None:
        log.warning("%s: local state deleted and rebuilt: %s", unit.name, reason)
        unit.store = renewed(store, cache, keep=False)
    return beginning


async def _compaction_moves_start(bootstrap: list[str], security: dict[str, Any]) -> bool:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **security)
    try:
        await client.start()
        return bool((await client.describe_cluster()).get("cluster_id") == EMBEDDED_CLUSTER)
    finally:
        with contextlib.suppress(Exception):
            await client.close()


def keep_fresh(stores: Iterable[Store]) -> None:
    """Touch each store whose last write is an hour old: a unit without records is not old while it is owned."""
    now_s = time.time()
    for store in stores:
        if now_s - store.written_at_s > TOUCH_EVERY_S:
            try:
                store.touch()
            except Exception as error:  # noqa: BLE001 - its unit meets it with the next record
                log.warning("%s: %s: %s", store.path, type(error).__name__, error)
