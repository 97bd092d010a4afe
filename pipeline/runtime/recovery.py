"""Rebuilding a unit's rows from its changelog: batches of bytes into write batches, nothing is decoded."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from pipeline.closing import stopped
from pipeline.core.errors import HardpartsError
from pipeline.core.origin import CHANGELOG_FORMAT, ORIGIN, Origin, require_readable
from pipeline.core.state import Row
from pipeline.core.turn import TURN, Turn
from pipeline.kafka.ends import uncommitted
from pipeline.runtime.store import FENCE, LOCAL, OWNER, Store, StoreDamaged, renewed

log = logging.getLogger("hardparts.recovery")

FETCH_BYTES = 4 << 20
ROWS_AT_ONCE = 5_000
"""Applied before the event loop goes on with something else: whole fetches held it up for seconds on a busy machine."""
STALLED_AFTER_S = 60.0
STOP_WITHIN_S = 1.0
STATE_AGE_MAX_S = 3.5 * 24 * 3600
"""Half of the changelog's delete.retention.ms (7 days): an older copy may have missed a tombstone."""
STATE_AHEAD_MAX_S = 60.0
"""A copy that is from later than now was written by another clock, and nobody knows how old it is. A clock that was set
right by less makes no difference to days.
"""
TOUCH_EVERY_S = 3600.0
UNBOUNDED = 2**63 - 1
"""The fence of a copy that is followed on and on."""
OURS = frozenset({OWNER, FENCE, TURN, ORIGIN, CHANGELOG_FORMAT})
"""Rows that say something of the changelog itself."""


class Unfit(NamedTuple):
    """Why a local copy can't be used. keep: it is set aside, to look at. lost: the changelog has lost what it holds."""

    reason: str
    keep: bool = False
    lost: bool = False


@dataclass(slots=True)
class Restoring:
    """One store on its way up to its fence, the record at offset `fence`.

    owner: the last owner that is known of; None without one. cluster: the id of the cluster; "" while it isn't known.
    lost: how a local copy shows that the changelog has lost rows; "" when none does.
    """

    name: str
    changelog: str
    partition: int
    store: Store
    fence: int
    cluster: str = ""
    owner: str | None = None
    lost: str = ""

    def __post_init__(self) -> None:
        self.owner = self.store.owner

    @property
    def tp(self) -> TopicPartition:
        """Its changelog topic-partition."""
        return TopicPartition(self.changelog, self.partition)

    @property
    def place(self) -> str:
        """Its changelog topic-partition, for people."""
        return f"{self.changelog}[{self.partition}]"


class ChangelogTruncated(HardpartsError):
    """The changelog no longer holds the rows that this unit needs: state rebuilt from it would be wrong."""


class RecoveryStalled(Exception):
    """No changelog record arrived for a long time."""


async def restore(bootstrap: list[str], security: dict[str, Any], units: Sequence[Restoring], cache: Any) -> None:
    """Read each changelog until its unit's fence has been applied.

    A local copy that is old is deleted; one that is damaged, or isn't a copy of this changelog, is set aside; all are
    rebuilt. Raises ChangelogTruncated when the changelog can't give what is missing here.
    """
    if not units:
        return
    async with reading(bootstrap, security, units, cache) as changelogs:
        await changelogs.begin()
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


def unfit(store: Store, beginning: int, end: int) -> Unfit | None:
    """Why a local copy can't be used, by its age and its offset alone; None when nothing speaks against it.

    beginning, end: the changelog's first offset, and the highest that a copy of it can have.
    """
    offset, age_s = store.offset, time.time() - store.written_at_s
    if offset is None:
        return Unfit("there is none")
    if offset > end:
        return Unfit(f"it goes up to {offset}, the changelog only to {end}", keep=True, lost=True)
    if offset < beginning:
        return Unfit(f"it ends at {offset}, before the changelog begins")
    if age_s > STATE_AGE_MAX_S:
        return Unfit(f"it is {age_s / 86400:.1f} days old")
    if age_s < -STATE_AHEAD_MAX_S:
        return Unfit(f"it was written when the clock was at least {-age_s / 3600:.1f} hours ahead: its age isn't known")
    return None


class Changelogs:
    """What is read by one consumer: the units' changelog topic-partitions. `at`: the unit that is being looked at.

    A local copy is believed when three things hold: the record that says which changelog this is still stands where the
    copy saw it; the last record that the copy has applied is still what stands there; and no row behind it was written
    by an owner whose fence the copy doesn't know.
    """

    def __init__(self, consumer: AIOKafkaConsumer, units: Sequence[Restoring], cache: Any) -> None:
        self._consumer, self._cache = consumer, cache
        self.units = {unit.tp: unit for unit in units}
        self._beginnings: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._to_compare: set[TopicPartition] = set()
        self._to_renew: dict[TopicPartition, Unfit] = {}
        self._front: dict[TopicPartition, list[ConsumerRecord]] = {}
        self._renewed: set[TopicPartition] = set()
        self.at: Restoring | None = None

    async def begin(self) -> None:
        """Seek to where each local copy goes on. Raises StoreFailed for the unit `at`."""
        self._consumer.assign(list(self.units))
        self._beginnings = await self._consumer.beginning_offsets(list(self.units))
        followed = [tp for tp, unit in self.units.items() if unit.fence == UNBOUNDED]
        self._ends = {tp: unit.fence for tp, unit in self.units.items()}
        self._ends |= await uncommitted(self._consumer).end_offsets(followed, None) if followed else {}
        others = await self._copies_of_others()
        for tp, unit in self.units.items():
            self.at = unit
            wrong = others.get(tp) or unfit(unit.store, self._beginnings[tp], self._ends[tp])
            if wrong is None:
                self._go_on(tp)
            else:
                self._rebuild(tp, wrong)

    def _go_on(self, tp: TopicPartition) -> None:
        """Read from the last record that the copy has applied, to compare it, if it is still there."""
        offset = self.units[tp].store.offset
        assert offset is not None
        if offset > self._beginnings[tp]:
            self._to_compare.add(tp)
            offset -= 1
        self._consumer.seek(tp, offset)

    def _rebuild(self, tp: TopicPartition, unfit: Unfit) -> None:
        """Read from the beginning; the copy stays until the changelog is known to hold what is missing here."""
        self._to_renew[tp] = unfit
        self._to_compare.discard(tp)
        self._consumer.seek(tp, self._beginnings[tp])

    async def _copies_of_others(self) -> dict[TopicPartition, Unfit]:
        """The copies whose changelog doesn't have, where they saw it, the record that says which one it is.

        One from whose front that record has been deleted can't be told by it.
        """
        seen = {tp: unit.store.origin_at for tp, unit in self.units.items()}
        places = {tp: at for tp, at in seen.items() if at is not None and at >= self._beginnings[tp]}
        found = await self._records_at({tp: at for tp, at in places.items() if at < self._ends[tp]})
        wrong = {}
        for tp in places:
            record, mine = found.get(tp), Origin.read(self.units[tp].store.get(ORIGIN))
            theirs = Origin.read(record.value) if record is not None and record.key == ORIGIN else None
            if mine is not None and (theirs is None or theirs.id != mine.id):
                other = "another one" if theirs is None else theirs.id
                wrong[tp] = Unfit(f"it is a copy of changelog {mine.id}, and this is {other}", keep=True)
        return wrong

    async def _records_at(self, places: dict[TopicPartition, int]) -> dict[TopicPartition, ConsumerRecord | None]:
        """The record at each of these offsets; None where there is none any more."""
        found: dict[TopicPartition, ConsumerRecord | None] = {}
        for tp, offset in places.items():
            self._consumer.seek(tp, offset)
        began = time.monotonic()
        while left := places.keys() - found.keys():
            for tp, records in (await self._consumer.getmany(*left, timeout_ms=1000, max_records=1)).items():
                found[tp] = records[0] if records[0].offset == places[tp] else None
            if time.monotonic() - began > STALLED_AFTER_S:
                raise RecoveryStalled(f"no changelog record for {STALLED_AFTER_S:.0f} s: {sorted(map(str, left))}")
        return found

    async def apply_next(self, wanted: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Apply what has arrived of these, waiting a second at most; the last offset applied of each that moved.

        Raises ChangelogTruncated, ChangelogFromNewerVersion, StoreFailed for the unit `at`; RecoveryStalled when the
        client fetches no more, which it only logs.
        """
        applied = {}
        if self._consumer._fetcher._fetch_task.done():
            raise RecoveryStalled("the client has stopped fetching: the log has its reason above")
        for tp, arrived in (await self._consumer.getmany(*wanted, timeout_ms=1000, max_records=ROWS_AT_ONCE)).items():
            unit = self.at = self.units[tp]
            records = self._checked(unit, arrived)
            if records is None or (records and not self._apply(unit, records)):
                continue
            applied[tp] = arrived[-1].offset
            await asyncio.sleep(0)
        return applied

    def _checked(self, unit: Restoring, records: list[ConsumerRecord]) -> list[ConsumerRecord] | None:
        """Those of them that are to be applied; None when more is needed first, or the copy turns out to be wrong."""
        tp = unit.tp
        if tp in self._to_renew:
            records = self._front.pop(tp, []) + records
            if not self._whole(unit, records):
                self._front[tp] = records
                return None
            self._renew(unit, self._to_renew.pop(tp))
        elif tp in self._to_compare:
            self._to_compare.discard(tp)
            first = records[0]
            if first.offset < (unit.store.offset or 0):
                if not _stands(first, unit.store):
                    what = f"it doesn't have what stands at {first.offset} as the last row that it has applied"
                    self._rebuild(tp, Unfit(what, keep=True, lost=True))
                    return None
                return records[1:]
        return records

    def _apply(self, unit: Restoring, records: list[ConsumerRecord]) -> bool:
        """Apply them to the unit's store; False when its rebuilding begins instead."""
        origin_at, origin = None, Origin.read(unit.store.get(ORIGIN))
        for record in records:
            if record.key in OURS:
                if record.key == OWNER:
                    unit.owner = record.value.decode()
                elif record.key == FENCE:
                    unit.owner = None
                elif record.key == ORIGIN:
                    origin_at, origin = record.offset, Origin.read(record.value)
                elif record.key == CHANGELOG_FORMAT:
                    require_readable(unit.place, record.value)
                elif not self._follows(unit, record.offset, Turn.read(record.value), origin):
                    return False
        try:
            unit.store.apply(_rows(records), records[-1].offset + 1, origin_at)
        except StoreDamaged as error:
            if unit.tp in self._renewed:
                raise  # the disk damages what it is given
            self._rebuild(unit.tp, Unfit(f"it is damaged: {error}", keep=True))
            return False
        return True

    def _follows(self, unit: Restoring, offset: int, turn: Turn, origin: Origin | None) -> bool:
        """Whether a turn continues what is in the store; if not, its rebuilding begins. Raises ChangelogTruncated.

        A changelog that was copied from another cluster has its rows at other offsets.
        """
        copied = origin is not None and "" not in (origin.cluster, unit.cluster) and origin.cluster != unit.cluster
        if turn.place > offset and not copied:
            raise ChangelogTruncated(
                f"{unit.name}: {unit.place} has lost acknowledged rows in front of offset {offset}: a row that stands "
                f"there was written behind rows up to {turn.place - 1}"
            )
        if unit.tp in self._renewed or unit.owner in (None, turn.fence):
            return True
        what = f"an owner that it doesn't know has written behind it, at {offset}"
        self._rebuild(unit.tp, Unfit(what, keep=True, lost=True))
        return False

    def _whole(self, unit: Restoring, records: list[ConsumerRecord]) -> bool:
        """Whether the changelog begins with its first row; False when these don't tell. Raises ChangelogTruncated.

        Kafka's compaction doesn't move the beginning of a log, the embedded broker's does.
        """
        beginning = self._beginnings[unit.tp]
        if beginning == 0:
            return True
        for record in records:
            if record.key == ORIGIN and getattr(Origin.read(record.value), "first", False):
                return True
            if record.key not in OURS or record.offset >= unit.fence:
                raise ChangelogTruncated(
                    f"{unit.name}: {unit.place} begins at offset {beginning}, what was before has been deleted "
                    f"(compaction doesn't), and the local state can't stand in for it: {self._to_renew[unit.tp].reason}"
                )
        return False

    def _renew(self, unit: Restoring, unfit: Unfit) -> None:
        """An empty store in place of the copy."""
        self._renewed.add(unit.tp)
        unit.owner = None
        if unfit.lost:
            unit.lost = unfit.reason
        if unit.store.offset is not None:
            done = "set aside" if unfit.keep else "deleted"
            log.warning("%s: local state %s and rebuilt: %s", unit.name, done, unfit.reason)
            unit.store = renewed(unit.store, self._cache, keep=unfit.keep)

    async def behind(self, tp: TopicPartition) -> int | None:
        """Offsets of the changelog that are not applied here; None before the broker said where it ends."""
        end = self._consumer.highwater(tp)
        return None if end is None else max(end - await self._consumer.position(tp), 0)

    def heard_s(self, tp: TopicPartition) -> float:
        """Seconds since the broker last said where the changelog ends."""
        at_ms = self._consumer.last_poll_timestamp(tp)
        heard_s = float("inf") if at_ms is None else time.time() - at_ms / 1000
        return heard_s if heard_s >= 0 else float("inf")  # the clock went back


def _rows(records: Iterable[ConsumerRecord]) -> Iterator[Row]:
    """Their rows; behind the fence of an older version, which writes rows without a turn, no turn stands any more."""
    for record in records:
        if record.key is not None:
            yield record.key, record.value
            if record.key == FENCE:
                yield TURN, None


def _stands(record: ConsumerRecord, store: Store) -> bool:
    """Whether the last record that a copy has applied is this one. Older versions keep none of theirs in a copy."""
    if record.key == FENCE and store.get(FENCE) is None:
        return True
    return record.key is None or bool(store.get(record.key) == record.value)


def keep_fresh(stores: Iterable[Store]) -> None:
    """Touch each store whose last write is an hour old, or later than now: the clock went back.

    A unit without records is not old while it is owned.
    """
    now_s = time.time()
    for store in stores:
        if not 0 <= now_s - store.written_at_s <= TOUCH_EVERY_S:
            try:
                store.touch()
            except Exception as error:  # noqa: BLE001 - its unit meets it with the next record
                log.warning("%s: %s: %s", store.path, type(error).__name__, error)


def bookkeeping_only(store: Store) -> bool:
    """Whether there is no row of an agent's in it."""
    return all(key in OURS or key in LOCAL for key, _ in store.scan(b""))
