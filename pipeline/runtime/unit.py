"""A unit: one agent, one partition number. It owns that partition's state, changelog and producer.

`process` is the path of a record: one function, eight named steps, for one batch. Everything else here is about
waiting, taking ownership anew and stopping.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain

from pipeline.core.agent import Definition
from pipeline.core.decode import Decided, decode
from pipeline.core.errors import Blocking, OwnershipLost
from pipeline.core.outcome import Applied, Blocked, Candidate, Outcome
from pipeline.core.record import Batch, Record
from pipeline.core.state import Row
from pipeline.core.strays import Strays
from pipeline.core.turn import TURN, Turn
from pipeline.core.views import Claims
from pipeline.runtime.blocking import BROKER, CLOCK, Head
from pipeline.runtime.context import Context
from pipeline.runtime.database import UpsertsRejected
from pipeline.runtime.errands import Errands
from pipeline.runtime.handle import Handling
from pipeline.runtime.held_up import ended_or_give_up
from pipeline.runtime.inbox import Inbox
from pipeline.runtime.outgoing import outgoing, upserts_of
from pipeline.runtime.outside import Outsider
from pipeline.runtime.ownership import OWNER_AGE_MAX_S, ChangelogLost, Owner, ProducerBroken, SizeRefused, TimeRefused
from pipeline.runtime.publish import Partitioner, publish
from pipeline.runtime.refusals import became
from pipeline.runtime.store import Store, StoreDamaged, renewed
from pipeline.runtime.timed import timed

log = logging.getLogger("hardparts.unit")

SAY_EVERY_S = 1.0
"""At most so often does an idle unit record offsets that have no record."""
COUNTS_AGE_MAX_S = 1.0
"""A source with strays that come one by one asks the broker at most so often for its partition count."""
BREAKS_MAX = 2
"""A new producer mends most breaks; when it breaks too, the record waits as for any other dependency (E2)."""
USELESS = (OwnershipLost, ProducerBroken, StoreDamaged)
"""What a unit mends by taking ownership anew: its producer or its store is of no use any more."""


class BatchesMissing(Exception):
    """Records were dropped inside this process: going on would lose them, so the worker ends."""


class WentBack(Exception):
    """The unit reads this source again from further back: the batch in hand comes once more, behind what is missing."""


class Unit:
    """One unit while this worker owns it; a rebalance ends it and the next takeover makes a new one."""

    def __init__(
        self,
        context: Context,
        agent: Definition,
        partition: int,
        changelog: str,
        store: Store,
        owner: Owner,
        retake: Callable[["Unit"], Awaitable[None]],
        reseek: Callable[[str, int, int], Awaitable[int]],
    ) -> None:
        self.context, self.agent, self.partition, self.changelog = context, agent, partition, changelog
        self.name = f"{context.app_id}/{agent.name}/{partition}"
        self.store, self.owner = store, owner
        self._retake, self._reseek = retake, reseek
        self.topics = {topic.name: topic for topic in agent.sources}
        self._news = asyncio.Event()
        self.inbox = Inbox(self.name, partition, reseek, self._news)
        self.errands = Errands(self._news)
        self._released, self.whole = False, True
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.positions: dict[str, int] = {}
        self.turn = Turn.read(store.get(TURN))
        self._after = self.turn
        self._said_at_s, self._mended = 0.0, 0
        self._held_up: Blocked | None = None
        self._in_hand: Batch | None = None
        self.newest_ms = 0
        self.head = Head(context, agent.name, partition)
        partitioners = {topic.name: topic.partitioner for topic in agent.outputs}
        self._partitioner = Partitioner(context.partitions, partitioners, context.homes)
        counts, known = context.partitions, (context.homes, context.moved, context.unread)
        self._strays = {
            topic.name: Strays(topic, partition, counts.get(topic.name, 1), *known) for topic in agent.sources
        }
        claims = [view for view in agent.views if isinstance(view, Claims)]
        self._outsider = Outsider(claims, context, self.name, self._stored, self.record_rows)
        self._handling = Handling(
            self.name, agent, context.contracts, lambda: context.limits, context.demand, lambda: self.store.get,
            self._outsider, context.now_ms, context.database.tables,
        )  # fmt: skip

    # ------------------------------------------------------------------ the path of a record

    async def process(self, batch: Batch) -> None:
        """Steps 2 to 8 for one batch; returns when every record of it is finished, however long that takes."""
        todo: Sequence[Record] = batch.records  # 1 fetch has delivered them
        breaks = 0
        while todo:
            if self.owner.age_s > OWNER_AGE_MAX_S:
                await self._take_anew()
                todo = self._unfinished(batch)
                continue
            tried = todo[:1] if self.head.blocked else todo
            try:
                decided = await self.decode(tried)  # 2
                marks = self.deduplicate(decided)  # 3
                outcomes, blocked = await self.handle(decided, marks)  # 4
                await self.publish(outcomes)  # 5
                self.context.crash.reach("after-outputs")
                rest = todo[len(outcomes) :]
                rows_end = await self.record(batch, outcomes, rest)  # 6
                self.context.crash.reach("after-changelog")
                self.apply(outcomes, rows_end)  # 7
                self.context.crash.reach("after-rocksdb")
                self.complete(batch, outcomes, rest)  # 8
                self._strays[batch.topic].finished(decided[: len(outcomes)])
                todo, breaks = rest, 0
            except Blocking as error:
                blocked = Blocked(todo[0], error.dependency, error.message)
            except UpsertsRejected as error:
                self._condemn(outcomes, error)
                continue
            except ProducerBroken as error:
                log.warning("%s: %s; taking ownership anew", self.name, error)
                if isinstance(error, SizeRefused | TimeRefused):  # by limits of today, if they were changed
                    await self.context.ask_limits()
                await self._take_anew()
                breaks += 1
                todo = self._unfinished(batch)
                if breaks < BREAKS_MAX or not todo:
                    continue
                blocked = Blocked(todo[0], CLOCK if isinstance(error, TimeRefused) else BROKER, str(error))
            if blocked is not None:
                await self.head.wait(blocked)
            elif not self.head.anywhere:
                self.head.passed()
        self.head.passed()

    @timed
    async def decode(self, records: Sequence[Record]) -> list[Decided]:
        """Step 2: bytes → candidates, or rejections; of a prefix when there are many rejections, or strays block.

        Before a run of strays begins, and before it blocks, it is seen whether the partition count has changed.
        """
        topic = self.topics[records[0].topic]
        contract, strays = self.context.contracts[topic.name], self._strays[topic.name]
        decided = decode(records, topic, contract, self.agent, strays)
        if strays.begins_or_blocks(decided):
            await self.context.ask_counts(0.0 if type(decided[-1]) is Blocked else COUNTS_AGE_MAX_S)
            return decided if strays.checks else decode(records, topic, contract, self.agent, strays)
        return decided

    @timed
    def deduplicate(self, decided: Sequence[Decided]) -> dict[bytes, bytes]:
        """Step 3: the marks that stand already, in one multi-get; `handle` adds those of the batch itself."""
        wanted = [item.mark for item in decided if type(item) is Candidate]
        found = self.store.get_many(wanted)
        return {row: mark for row, mark in zip(wanted, found, strict=True) if mark is not None}

    @timed
    async def handle(
        self, decided: Sequence[Decided], marks: dict[bytes, bytes]
    ) -> tuple[list[Outcome], Blocked | None]:
        """Step 4: the agent's functions; outcomes of the prefix, and the record that blocks, if one does."""
        return await self._handling.run(decided, marks)

    @timed
    async def publish(self, outcomes: Sequence[Outcome]) -> None:
        """Step 5: outputs, error and audit records, SQL rows; returns when all of it is acknowledged."""
        upserts, origins = upserts_of(outcomes)
        if upserts:
            with self.context.metrics.dependency.labels("database").time():
                await self.context.database.write(upserts, origins)
        attempts, first_ms = self.head.attempts, self.head.first_failed_ms
        out = outgoing(outcomes, self.context, self.agent, attempts, first_ms)
        if outcomes:
            await self.owner.begin()
        if out:
            with self.context.metrics.dependency.labels("broker").time():
                await publish(self.owner, out, self._partitioner, self.partition, self.context.limits.tight)

    @timed
    async def record(self, batch: Batch, outcomes: Sequence[Outcome], rest: Sequence[Record]) -> int | None:
        """Step 6: the rows of each applied event, its mark among them, in the changelog; the next offset there.

        The last row of each record batch says up to where the source is finished. With exactly_once this commits the
        batch's transaction, and step 8's position in it.
        """
        if not outcomes:
            return None
        applied = [outcome for outcome in outcomes if type(outcome) is Applied]
        position = rest[0].offset if rest else batch.end

        def until(count: int) -> dict[str, int]:
            return {batch.topic: position if count == len(applied) else applied[count].record.offset}

        end = await self._append([outcome.rows for outcome in applied], until)
        await self._commit({batch.topic: position})
        return end

    @timed
    def apply(self, outcomes: Sequence[Outcome], rows_end: int | None) -> None:
        """Step 7: the same rows and the changelog offset in one RocksDB write."""
        if rows_end is not None:
            applied = [outcome for outcome in outcomes if type(outcome) is Applied]
            self.store.apply(chain(chain.from_iterable(one.rows for one in applied), (self._after.row(),)), rows_end)
            self.turn = self._after
            self._outsider.forget(applied)

    @timed
    def complete(self, batch: Batch, outcomes: Sequence[Outcome], rest: Sequence[Record]) -> None:
        """Step 8: where the unit stands now: at the first unfinished record, or the batch's end; `recorded` follows."""
        if outcomes:
            self.positions[batch.topic] = rest[0].offset if rest else batch.end
            self.context.metrics.count(self.agent.name, outcomes)
            if self._handling.condemned:
                for outcome in outcomes:
                    self._handling.condemned.pop((outcome.record.topic, outcome.record.offset), None)
            self.newest_ms = max(self.newest_ms, outcomes[-1].record.timestamp)
            behind_s = (self.context.now_ms() - outcomes[-1].record.timestamp) / 1000
            self.context.metrics.end_to_end.labels(self.agent.name).observe(max(behind_s, 0.0))

    # ------------------------------------------------------------------ being fed

    def start(self, positions: dict[str, int], seeks: dict[str, int], held_up: Blocked | None = None) -> None:
        """Run from these offsets (source topic → next offset); `seeks` numbers the seek that fetches from there.

        held_up: what a person has to decide before the unit may run; it takes nothing then.
        """
        self.positions, self._held_up = dict(positions), held_up
        self.context.unread.difference_update(topic for topic, at in self.turn.positions.items() if at > 0)
        self.inbox.begin(positions, seeks)
        if self._handling.is_async:  # others never take a slot, so none is kept for them
            self.context.demand.join(self.name)
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self.name)

    def finished_until(self, positions: dict[str, int]) -> None:
        """All before these offsets is finished (source topic → next to read); only `go_back` goes back."""
        for topic, offset in positions.items():
            self.positions[topic] = max(self.positions.get(topic, offset), offset)

    async def resume(self, positions: dict[str, int]) -> None:
        """After ownership was taken anew: what the changelog says is finished is, and what it has lost comes again."""
        self.finished_until(positions)
        await self.go_back({topic: at for topic, at in positions.items() if at < self.positions[topic]})

    @property
    def recorded(self) -> dict[str, int]:
        """Source topic → next offset as the changelog has it: what the group may be told, and never more."""
        if self._held_up is not None:
            return {}
        return {topic: self.turn.positions[topic] for topic in self.positions if topic in self.turn.positions}

    async def go_back(self, positions: dict[str, int]) -> None:
        """Read these sources again from these offsets; the marks tell what has been applied."""
        for topic, offset in positions.items():
            self.positions[topic] = offset
            self._handling.rewound(topic)
            self.inbox.go_back(topic, offset, await self._reseek(topic, self.partition, offset))

    @property
    def running(self) -> bool:
        """Whether it takes batches."""
        return self._task is not None and not self._task.done()

    def oldest_ms(self, topic: str) -> int | None:
        """Time of the first unfinished record of this source; None while none has come here."""
        if (batch := self._in_hand) is not None and batch.topic == topic:
            done = self.positions.get(topic, 0)
            for record in batch.records:
                if record.offset >= done:
                    return record.timestamp
        waiting = (record for batch in self.inbox if batch.topic == topic for record in batch.records)
        return next((record.timestamp for record in waiting), None)

    def has_room(self) -> bool:
        """Whether more may be fetched for it."""
        return self.inbox.has_room()

    async def deliver(self, batch: Batch) -> None:
        """Take a batch, unless it is from before a seek or a rebalance."""
        await self.inbox.deliver(batch)

    async def _run(self) -> None:
        try:
            while self._held_up is not None:
                await self.head.wait(self._held_up)
            while True:
                while not self.inbox and not self.errands:
                    self._news.clear()
                    await self._wait_for_news()
                self._idle.clear()
                if self.errands:
                    await self._between()
                else:
                    await self._finish(self.inbox.take())
                self._idle.set()
                self.context.room.set()
        except asyncio.CancelledError:
            if not self.inbox.closed:  # `stop` closes it first: this came from something that was awaited
                self.context.fatal(RuntimeError(f"{self.name} was cancelled by what it waited for"))
            raise
        except Exception as error:
            log.exception("%s can't go on", self.name)
            self.context.fatal(error)

    async def _finish(self, batch: Batch) -> None:
        self._in_hand = batch
        while True:
            try:
                if batch.end < batch.start:
                    await self._begin_again(batch)
                else:
                    await self.process(batch._replace(records=self._unfinished(batch)))
                    self.finished_until({batch.topic: batch.end})
                    await self._say_if_due()
            except USELESS as error:
                await self._mend(error)
            except WentBack:
                self.head.passed()
                break
            else:
                self._mended = 0
                break
        self._in_hand = None

    async def _begin_again(self, batch: Batch) -> None:
        """The source has lost records that were read: go on at its beginning, and have changelog and group say so.

        Others stand at those offsets now, or will. A restart from the old offset would pass over them.
        """
        self.positions[batch.topic] = batch.end
        self._handling.rewound(batch.topic)
        await self._say_where_it_stands()

    async def _between(self) -> None:
        """One errand between two batches; one that fails is not tried again here, whoever asked for it is told."""
        if self.owner.age_s > OWNER_AGE_MAX_S:
            await self._take_anew()
        try:
            await self.errands.run()
        except USELESS as error:
            await self._mend(error)

    async def _wait_for_news(self) -> None:
        """For a batch or an errand; meanwhile, what the changelog doesn't say yet is said when it is due."""
        while not self._news.is_set():
            due_s = self._due_in_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), due_s)
                return
            try:
                await self._say_if_due()
            except USELESS as error:
                await self._mend(error)

    @property
    def _due_in_s(self) -> float | None:
        """Seconds until the changelog is to say where the unit stands; None while it does.

        Past the end of a batch are offsets without a record: markers of its writers' transactions, say.
        """
        at = self.turn.positions
        if all(at.get(topic) == position for topic, position in self.positions.items()):
            return None
        every_s = 0.0 if self.owner.TRANSACTIONAL else SAY_EVERY_S
        return max(self._said_at_s + every_s - time.monotonic(), 0.0)

    async def _say_if_due(self) -> None:
        """A record batch of its own, unless the next batch's will say it."""
        if self.inbox or self._due_in_s != 0.0:
            return
        self._said_at_s = time.monotonic()
        await self._say_where_it_stands()

    async def _say_where_it_stands(self) -> None:
        """Its positions in the changelog, without a row of an event."""
        await self.owner.begin()
        end = await self._append([], lambda _count: {})
        await self._commit({})
        self.store.apply((self._after.row(),), end)
        self.turn = self._after

    def _unfinished(self, batch: Batch) -> Sequence[Record]:
        done = self.positions[batch.topic]
        if done < batch.start:
            if not self.inbox.expects(batch):
                raise WentBack
            where = f"{batch.topic}[{batch.partition}]"
            raise BatchesMissing(f"{where}: a batch begins at {batch.start}, but {done} is the next to handle")
        if done == batch.start:
            return batch.records
        return [record for record in batch.records if record.offset >= done]

    # ------------------------------------------------------------------ owning

    async def record_rows(self, events: list[list[Row]]) -> None:
        """Append and apply rows outside a batch's step 6: claims, and what an errand writes."""
        end = await self._append(events)
        self.context.crash.reach("after-rows")
        self.store.apply((row for rows in events for row in rows), end)

    async def _commit(self, positions: dict[str, int]) -> None:
        offsets = {(topic, self.partition): offset for topic, offset in (self.positions | positions).items()}
        await self.owner.commit(offsets, self.context.app_id, self.turn.topics)

    async def _append(
        self, events: Sequence[Sequence[Row]], until: Callable[[int], dict[str, int]] | None = None
    ) -> int:
        """Append rows to the changelog; the next offset there.

        until: given how many of the events stand in front, up to where they finish a source. With it each record batch
        ends with the turn that says so, the last of which is `_after` then.
        """
        self._after, begin, rows = self.turn, self.store.offset or 0, sum(map(len, events))
        closings = 0

        def closing(count: int) -> Row:
            nonlocal closings
            assert until is not None
            place = begin + sum(map(len, events[:count])) + closings
            closings += 1
            self._after = self._after.recorded(
                self.positions | until(count), self.owner.fence, self.context.now_ms(), place
            )
            return self._after.row()

        end = await self.owner.append_rows(
            self.changelog, self.partition, events, self.context.limits.rows_bytes_max, closing if until else None
        )
        if end - rows - closings < begin:
            raise ChangelogLost(
                f"{self.name}: {self.changelog}[{self.partition}] has lost rows: what was written now stands at "
                f"{end - rows - closings}, behind rows up to {begin}: see docs/runbook.md"
            )
        return end

    def _stored(self, row: bytes) -> bytes | None:
        return self.store.get(row)  # not bound once: taking ownership anew may replace the store

    async def _mend(self, error: BaseException) -> None:
        self.whole = False  # who reads this state now may read what another owner has changed, or what isn't back yet
        if isinstance(error, StoreDamaged):
            log.warning("%s: local state is damaged, set aside and rebuilt: %s", self.name, error)
            self.store = renewed(self.store, self.store.cache, keep=True)
        else:
            log.warning("%s: %s; taking ownership anew if the group still gives it to us", self.name, error)
        self._mended += 1
        if self._mended > 1:  # it broke again before anything was finished
            await asyncio.sleep(self.context.backoff.delay_s(self._mended - 1, self.context.jitter))
        await self._take_anew()
        self.whole = True

    async def _take_anew(self) -> None:
        """A new producer under the same id, a fence, and recovery up to it; only while the group says we own this."""
        await self.owner.abandon()
        await self._retake(self)

    def _condemn(self, outcomes: Sequence[Outcome], refused: UpsertsRejected) -> None:
        """Note what becomes of these records, up to the first that blocks: those behind it are tried again later."""
        _, origins = upserts_of(outcomes)
        for position, reason in refused.reasons.items():
            record = origins[position].record
            outcome = became(record, reason, self.agent)
            self._handling.condemned[record.topic, record.offset] = outcome
            if type(outcome) is Blocked:
                break

    async def stop(self, deadline: float) -> None:
        """Finish the batch in hand if it ends before `deadline` (time.monotonic), else abandon it; release all."""
        task = self._task
        self.inbox.close()
        self.errands.drop()
        if task is not None and not task.done():
            if not self.head.blocked:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._idle.wait(), max(deadline - time.monotonic(), 0))
            with contextlib.suppress(asyncio.CancelledError):
                await ended_or_give_up(task, self.name)
        await self.owner.abandon(max(deadline - time.monotonic(), 0.2))
        if self._released:
            return
        self._released = True
        self.store.close()
        self.head.released()
        self.context.demand.leave(self.name)
