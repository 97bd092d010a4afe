"""Taking units over after a rebalance: own → fence → recover → say where it starts → run.

It replaces Faust's recovery: rows are read by our own consumer up to our own fence, and nothing is fetched for a unit
before it is whole.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, cast

from aiokafka.errors import ConsumerStoppedError, InvalidTransactionTimeout, KafkaError
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP
from mode import Service

from pipeline.closing import ended
from pipeline.core.agent import Definition
from pipeline.core.errors import HardpartsError, OwnershipLost
from pipeline.core.turn import TURN, Turn
from pipeline.runtime.ownership import TRANSACTION_TIMEOUT_MS, Owner, ProducerBroken
from pipeline.runtime.recovery import UNBOUNDED, RecoveryStalled, Restoring, restore
from pipeline.runtime.standby import Standbys
from pipeline.runtime.starting import Starting, claim, tell
from pipeline.runtime.store import OWNER, StateFormatUnknown, open_or_set_aside
from pipeline.runtime.transaction import TransactionalOwner
from pipeline.runtime.unit import Unit

log = logging.getLogger("hardparts.takeover")

RETRY_FIRST_S, RETRY_CAP_S = 0.2, 5.0
OWN_WITHIN_S = 30.0
ENDS_WITHIN_S = 10.0
SIGN_OF_LIFE_S = 10.0
LETS_GO_WITHIN_S = 3.0
"""A takeover that is cancelled closes its stores and producers; a second cancel must not interrupt that."""
CLOCK_OFF_MAX_S = 60.0
TRANSIENT = (KafkaError, OSError, TimeoutError, ProducerBroken, OwnershipLost, RecoveryStalled)


class Takeover(Recovery):
    """Faust's recovery service, ours inside."""

    app: Any  # our App; Faust declares the type of its own
    _taking: asyncio.Task[None] | None = None
    _standbys: Standbys | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._troubles: dict[object, tuple[float, str]] = {}
        self._transaction_timeout_ms = TRANSACTION_TIMEOUT_MS

    @property
    def _owners(self) -> type[Owner]:
        return TransactionalOwner if self.app.settings.exactly_once else Owner

    @property
    def trouble(self) -> tuple[float, str] | None:
        """What a takeover has been waiting for the longest: since when (time.monotonic), and the last error's text."""
        return min(self._troubles.values(), default=None)

    @contextlib.contextmanager
    def _waiting_for(self, text: str) -> Iterator[None]:
        self._troubles[waiting := object()] = time.monotonic(), text
        try:
            yield
        finally:
            del self._troubles[waiting]

    async def on_rebalance(
        self,
        assigned: set[TP],  # noqa: ARG002 - Faust's signature
        revoked: set[TP],  # noqa: ARG002
        newly_assigned: set[TP],  # noqa: ARG002
        generation_id: int = 0,
    ) -> None:
        """A new assignment: take over what it names."""
        self._generation_id = generation_id
        self.signal_recovery_start.set()

    @Service.task
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):  # type: ignore[arg-type]  # an asyncio.Event is fine
                return
            await self.cancel()
            if not self.signal_recovery_start.is_set():
                continue  # revoked meanwhile
            self.signal_recovery_start.clear()
            self._taking = asyncio.get_running_loop().create_task(self._take_all(self._generation_id))
            self._taking.add_done_callback(self._on_taken)

    def _on_taken(self, taking: "asyncio.Task[None]") -> None:
        if taking.cancelled():
            if self._taking is taking and not self.should_stop:  # nobody has cancelled it but something that it awaited
                self.app.fatal(RuntimeError("a takeover was cancelled by what it waited for"))
        elif (error := taking.exception()) is not None:
            log.error("takeover failed", exc_info=error)
            self.app.fatal(error)

    async def revoke_all(self) -> None:
        """The assignment is no longer ours: no takeover of it goes on or begins, and no copy is open."""
        self.signal_recovery_start.clear()
        await self.cancel()
        if self._standbys is not None:
            await self._standbys.stop()

    async def cancel(self) -> None:
        """Stop a takeover that is under way."""
        taking, self._taking = self._taking, None
        if taking is not None and not taking.done():
            await ended(taking, again_s=LETS_GO_WITHIN_S)

    async def _take_all(self, generation: int) -> None:
        alive = asyncio.get_running_loop().create_task(self._show_life())
        try:
            await self._take_assignment(generation)
        finally:
            alive.cancel()

    async def _show_life(self) -> None:
        """A recovery may take longer than the group waits for a member that fetches nothing."""
        every_s = min(SIGN_OF_LIFE_S, self.app.settings.max_poll_interval_s / 3)
        with contextlib.suppress(ConsumerStoppedError):
            while True:
                await asyncio.sleep(every_s)
                await self.app.consumer.group.fetch(set(), 0.0)

    async def _take_assignment(self, generation: int) -> None:
        app = self.app
        await app.units.stop()  # none, unless a generation was overtaken by the next one at the end of its takeover
        app.units.forget()
        standbys = self._standbys = self._standbys or Standbys(app.context, app.block_cache)
        await standbys.stop()
        consumer = app.consumer
        app.in_recovery = True
        assigned = set(consumer.assignment())
        changelogs = {tp for tp in assigned if self._is_changelog_tp(tp)}
        kept_still = changelogs | self._of_others(assigned)
        if kept_still:
            await consumer.group.hold(kept_still)
        taken = await self._patiently(lambda: self._own_all(assigned - kept_still))
        units = [unit for unit, _ in taken]
        try:
            await self._patiently(lambda: self._run_all(taken))
        except BaseException:
            await asyncio.gather(*(unit.stop(0) for unit in units if not unit.running), return_exceptions=True)
            raise
        app.in_recovery = False
        if app.consumer_generation_id != generation:
            return  # one more assignment is on its way: its release, or else its takeover, stops these units
        consumer.resume_partitions(assigned - kept_still)
        self.completed.set()
        app.flow_control.resume()
        consumer.resume_flow()
        await app._fetcher.maybe_start()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()
        await app.on_rebalance_complete.send()
        standbys.follow(self._open_standbys())
        app.note_ready(sorted({unit.partition for unit in units}))

    async def _patiently(self, work: Any) -> Any:
        """Until it succeeds: while the broker is away there is nothing better to do than to try again."""
        delay_s, began, this = RETRY_FIRST_S, time.monotonic(), object()
        try:
            while True:
                try:
                    return await work()
                except TRANSIENT as error:
                    reason = f"{type(error).__name__}: {error}"
                    self._troubles[this] = began, reason
                    log.warning("takeover: %s; again in %.1f s", reason, delay_s)
                    await asyncio.sleep(delay_s)
                    if isinstance(error, OwnershipLost):
                        await self.app.still_member()  # else we would take it from its rightful owner again
                    delay_s = min(delay_s * 2, RETRY_CAP_S)
        finally:
            self._troubles.pop(this, None)

    async def _own_all(self, assigned: set[TP]) -> list[tuple[Unit, Starting]]:
        """Own, fence and recover every unit of this assignment, side by side, and write down where each starts."""
        wanted: list[tuple[Definition, int]] = []
        for agent in self.app.definitions:
            numbers = {tp.partition for tp in assigned if any(tp.topic == topic.name for topic in agent.sources)}
            wanted.extend((agent, number) for number in sorted(numbers))
        owners: list[Owner] = []
        stores: list[Restoring] = []
        try:
            owned = await asyncio.gather(
                *(self._own(agent, number, owners) for agent, number in wanted), return_exceptions=True
            )
            for error in owned:
                if isinstance(error, BaseException):
                    raise error
            for (agent, number), one in zip(wanted, owned, strict=True):
                assert not isinstance(one, BaseException)
                stores.append(self._open(agent, number, one[1]))
            self.app.context.crash.reach("in-recovery")
            await restore(self.app.context.bootstrap, self.app.context.security, stores, self.app.block_cache)
            units = [
                self._unit(agent, number, one[0], restoring)
                for (agent, number), one, restoring in zip(wanted, owned, stores, strict=True)
                if not isinstance(one, BaseException)
            ]
            starts = await self._starts(units, stores, assigned)
            await asyncio.gather(*(claim(unit, one) for unit, one in zip(units, starts, strict=True)))
        except BaseException:
            for restoring in stores:
                restoring.store.close()
            await asyncio.gather(*(owner.abandon(1.0) for owner in owners), return_exceptions=True)
            raise
        return list(zip(units, starts, strict=True))

    def _of_others(self, assigned: set[TP]) -> set[TP]:
        """Sources that are given to us, while their units are another worker's: who has a changelog partition owns the
        unit. A leader of an older version goes topic by topic.
        """
        app, group = self.app, self.app.consumer.group
        units: set[TP] = app.assignor.assigned_actives()
        others = set()
        for agent in app.definitions:
            changelog = app.changelog(agent)
            if group.has(changelog):
                names = {topic.name for topic in agent.sources}
                others |= {tp for tp in assigned if tp.topic in names and TP(changelog, tp.partition) not in units}
        if others:
            shown = ", ".join(f"{tp.topic}[{tp.partition}]" for tp in sorted(others))
            log.warning("not read here, since other workers own the units: %s", shown)
        return others

    async def _starts(self, units: Sequence[Unit], restored: Sequence[Restoring], assigned: set[TP]) -> list[Starting]:
        """Where each unit starts, by its changelog and by the group."""
        group = self.app.consumer.group
        sources = [TP(topic.name, unit.partition) for unit in units for topic in unit.agent.sources]
        sources = [tp for tp in sources if tp in assigned]
        committed = await group.committed(sources) if sources else {}
        beginnings = await group.beginnings(sources) if sources else {}
        ends = {tp: end.high for tp, end in (await group.ends(sources, ENDS_WITHIN_S)).items()} if sources else {}
        return [
            Starting.of(unit, one, committed, beginnings, ends, group.topic_ids)
            for unit, one in zip(units, restored, strict=True)
        ]

    async def _own(self, agent: Definition, number: int, owners: list[Owner]) -> tuple[Owner, int]:
        """The producer of a unit, and the offset of the fence that it has written.

        The producer is put into `owners` at once: who cancels this mustn't lose it. ProducerBroken after OWN_WITHIN_S.
        """
        app = self.app
        unit, changelog = f"{app.context.app_id}/{agent.name}/{number}", app.changelog(agent)
        away = f"transaction coordinator or leader of {changelog}[{number}] away"
        with self._waiting_for(f"{unit}: waiting for ownership: {away}"):
            try:
                async with asyncio.timeout(OWN_WITHIN_S):
                    owner = await self._take(unit)
                    owners.append(owner)
                    owner.fence = uuid.uuid4().hex
                    end = await owner.append_rows(changelog, number, [[(OWNER, owner.fence.encode())]])
            except TimeoutError as error:
                raise ProducerBroken(f"{unit}: no ownership within {OWN_WITHIN_S:.0f} s: {away}") from error
        if (ahead_s := owner.clock_ahead_s) is not None and abs(ahead_s) > CLOCK_OFF_MAX_S:
            log.warning("%s: this machine's clock is %+.0f s from the broker's: synchronise it (NTP)", unit, ahead_s)
        return owner, end - 1

    async def _take(self, unit: str) -> Owner:
        """A producer whose transaction timeout is halved until the broker allows it; a refusal names no limit."""
        context, owners = self.app.context, self._owners
        while True:
            timeout_ms = self._transaction_timeout_ms
            try:
                return await owners.take(context.bootstrap, unit, context.security, context.holds_lease, timeout_ms)
            except InvalidTransactionTimeout as error:
                less = max(timeout_ms // 2, owners.TRANSACTION_TIMEOUT_MIN_MS)
                if less == timeout_ms:
                    raise ProducerBroken(
                        f"{unit}: the broker allows transactions of less than {timeout_ms} ms only: raise its setting "
                        f"transaction.max.timeout.ms to {owners.TRANSACTION_TIMEOUT_MIN_MS} or more"
                    ) from error
                if self._transaction_timeout_ms == timeout_ms:  # else another unit has been quicker
                    self._transaction_timeout_ms = less
                    log.warning("transaction.max.timeout.ms of the broker is below %d: trying %d", timeout_ms, less)

    def _open(self, agent: Definition, number: int, fence: int) -> Restoring:
        app = self.app
        path = app.settings.state_dir / "tables" / agent.name / str(number)
        store, damage = open_or_set_aside(path, app.block_cache)
        if damage is not None:
            log.warning("%s/%d: local state was damaged, set aside and rebuilt: %s", agent.name, number, damage)
        return Restoring(f"{agent.name}/{number}", app.changelog(agent), number, store, fence, app.context.cluster_id)

    def _open_standbys(self) -> list[Restoring]:
        """Copies that the assignor wants here; a directory that can't be opened is left alone and reported."""
        wanted = {tp for tp in self.app.assignor.assigned_standbys() if self._is_changelog_tp(tp)}
        opened = []
        for agent in self.app.definitions:
            for tp in sorted(tp for tp in wanted if tp.topic == self.app.changelog(agent)):
                try:
                    opened.append(self._open(agent, tp.partition, UNBOUNDED))
                except (HardpartsError, OSError, StateFormatUnknown) as error:
                    log.warning("%s/%d: no standby here: %s", agent.name, tp.partition, error)
        return opened

    def _unit(self, agent: Definition, number: int, owner: Owner, restoring: Restoring) -> Unit:
        return Unit(
            self.app.context, agent, number, restoring.changelog, restoring.store, owner,
            retake=self._retake, reseek=self._reseek,
        )  # fmt: skip

    async def _run_all(self, taken: Sequence[tuple[Unit, Starting]]) -> None:
        """Seek every source to where its unit starts, and start the units."""
        app = self.app
        positions = {tp: place.offset for _, one in taken for tp, place in one.places.items()}
        if not positions:
            return
        app.units.begin_at({tp: offset for _, one in taken for tp, offset in one.committed.items()})
        seeks = await app.consumer.group.seek_all(positions)
        for unit, one in taken:
            tell(unit, one)
            unit.start(one.positions, {tp.topic: seeks[tp] for tp in one.places}, one.held_up)
            app.units.add(unit)

    async def _retake(self, unit: Unit) -> None:
        """Own one running unit anew, after its producer broke or was fenced.

        Fenced means that somebody took the unit over. Only a heartbeat of the current generation, later than that,
        shows that the group still gives it to us; without one the rebalance that is under way ends this unit.
        """
        await self.app.still_member()

        async def again() -> None:
            owners: list[Owner] = []
            try:
                owner, fence = await self._own(unit.agent, unit.partition, owners)
                cluster = self.app.context.cluster_id
                restoring = Restoring(unit.name, unit.changelog, unit.partition, unit.store, fence, cluster)
                try:
                    await restore(
                        self.app.context.bootstrap, self.app.context.security, [restoring], self.app.block_cache
                    )
                finally:
                    unit.store = restoring.store
                unit.turn = Turn.read(unit.store.get(TURN))
                sources = {TP(topic, unit.partition) for topic in unit.positions}
                (one,) = await self._starts([unit], [restoring], sources)
                one = one.of_running(unit)
                old, unit.owner = unit.owner, owner
                try:
                    await claim(unit, one)
                except BaseException:
                    unit.owner = old
                    raise
                await old.abandon(1.0)
            except BaseException:
                await asyncio.gather(*(one.abandon(1.0) for one in owners), return_exceptions=True)
                raise
            tell(unit, one)
            await unit.resume(one.positions)

        await self._patiently(again)

    async def _reseek(self, topic: str, partition: int, offset: int) -> int:
        tp = TP(topic, partition)
        return int((await self.app.consumer.group.seek_all({tp: offset}))[tp])


class Tables(TableManager):
    """Faust's table manager with our takeover as its recovery."""

    async def on_start(self) -> None:
        """Register the changelogs; Faust waits a second first, for tables declared late, which we don't have."""
        await self._update_channels()
        await self.recovery.start()

    @property
    def recovery(self) -> Takeover:
        """The takeover service."""
        if self._recovery is None:
            self._recovery = Takeover(self.app, self, beacon=self.beacon, loop=self.loop)
        return cast(Takeover, self._recovery)
