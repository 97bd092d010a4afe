"""Rebuilding a unit's rows from its changelog: batches of bytes into write batches, nothing is decoded."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from pipeline.core.errors import HardpartsError
from pipeline.runtime.store import FENCE, Store, StoreDamaged, renewed

log = logging.getLogger("hardparts.recovery")

FETCH_BYTES = 4 << 20
STALLED_AFTER_S = 60.0
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
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=50,
        **security,
    )
    rebuilt: set[TopicPartition] = set()
    try:
        await consumer.start()
        waiting = {unit.tp: unit for unit in units}
        consumer.assign(list(waiting))
        beginnings = await consumer.beginning_offsets(list(waiting))
        moves = any(beginnings.values()) and await _compaction_moves_start(bootstrap, security)
        for tp, unit in waiting.items():
            consumer.seek(tp, _start(unit, beginnings[tp], cache, moves))
        news_at = time.monotonic()
        while waiting:
            fetched = await consumer.getmany(*waiting, timeout_ms=1000)
            if fetched:
                news_at = time.monotonic()
            elif time.monotonic() - news_at > STALLED_AFTER_S:
                raise RecoveryStalled(f"no changelog record for {STALLED_AFTER_S:.0f} s: {sorted(map(str, waiting))}")
            for tp, records in fetched.items():
                unit = waiting[tp]
                rows = (
                    (record.key, record.value) for record in records if record.key is not None and record.key != FENCE
                )
                try:
                    unit.store.apply(rows, records[-1].offset + 1)
                except StoreDamaged as error:
                    if tp in rebuilt:
                        raise  # the disk damages what it is given
                    rebuilt.add(tp)
                    log.warning("%s: local state is damaged, set aside and rebuilt: %s", unit.name, error)
                    unit.store = renewed(unit.store, cache, keep=True)
                    consumer.seek(tp, _start(unit, beginnings[tp], cache, moves))
                    continue
                if records[-1].offset >= unit.fence:
                    del waiting[tp]
                await asyncio.sleep(0)
    finally:
        with contextlib.suppress(Exception):
            await consumer.stop()


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
