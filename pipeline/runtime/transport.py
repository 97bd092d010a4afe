"""Batches through Faust: one Faust event is one batch of a topic-partition whose unit has room.

Faust's own consumer makes tasks for every record, commits by bookkeeping that loses records when a batch is finished
in part, and seeks behind our back while it recovers. This one asks for partitions with room, labels each batch with
the positions that it spans, so that a unit notices when one was lost on the way, and commits what the units finished.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, NamedTuple, cast

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
    NoError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
)
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode.threads import MethodQueue

from pipeline.closing import stopped
from pipeline.core.record import Batch, Record
from pipeline.core.start import Committed
from pipeline.kafka.ends import uncommitted
from pipeline.kafka.topic_ids import TopicSeen, see_topics
from pipeline.runtime.chunks import chunks
from pipeline.runtime.clock import lease_now_s
from pipeline.runtime.instance import member_id
from pipeline.runtime.joining import Joining
from pipeline.runtime.readable import Unreadable, read_any_header_name
from pipeline.runtime.security import DENIED
from pipeline.runtime.topic_lives import TopicLives

FETCH_WAIT_MS = 100
"""Faust's 1,500 ms would let a partition with news wait for the others' long poll."""
COMMIT_TIMEOUT_S = 5.0
LAST_COMMIT_TIMEOUT_S = 2.0
"""A stop mustn't wait for a broker that is away: what isn't committed is done again, and found done."""
LEAVE_TIMEOUT_S = 2.0
OFFSETS_TIMEOUT_S = 10.0
BEGINNING_TIMEOUT_S = 2.0
"""Meanwhile nothing else is fetched; without an answer the next fetch finds the same."""
STILL_MEMBER = (NoError.errno, RebalanceInProgressError.errno)
OF_MEMBERS = (JoinGroupRequest, SyncGroupRequest, HeartbeatRequest)
CALLS_AT_ONCE = 6
"""Calls of the group's thread that may wait for the broker side by side: fetch, commit, a takeover's, a page's, the
watch of the sources' ends, and a unit's question for partition counts."""


class Fetched(NamedTuple):
    """Records of one topic-partition and the positions [start, end) that they span.

    log_end: set when the log didn't have `start`, above its end or below its beginning; `end` is its beginning then.
    """

    seek: int
    start: int
    end: int
    records: list[Record]
    log_end: int | None = None


class Cursor:
    """Where fetching of one topic-partition stands, counted from seek number `seek`."""

    __slots__ = ("position", "seek")

    def __init__(self, seek: int, position: int) -> None:
        self.seek, self.position = seek, position


class LogEnds(NamedTuple):
    """The offsets behind the last record of a log: `stable` of what no open transaction holds back, `high` of all."""

    stable: int
    high: int


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that talks to Kafka as a group member; heartbeats go on while handlers run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.cursors: dict[TopicPartition, Cursor] = {}
        self.heartbeat_at_s = 0.0
        self.lives = TopicLives()
        self.joining: Joining | None = None
        self._watching: asyncio.Task[None] | None = None
        self._seeks = 0
        self._unreadable: Unreadable | None = None
        self._outside: dict[TopicPartition, Fetched] = {}

    @property
    def method_queue(self) -> MethodQueue:
        """The calls of other threads."""
        if self._method_queue is None:
            self._method_queue = MethodQueue(num_workers=CALLS_AT_ONCE, loop=self.thread_loop, beacon=self.beacon)
        return self._method_queue

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        read_any_header_name()
        consumer = super()._create_worker_consumer(transport)
        consumer._client.cluster_memory = cast(Any, self.app).cluster_memory
        consumer._client.password_file = cast(Any, self.app).settings.sasl_password_file
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        consumer._isolation_level = "read_committed"  # an aborted record was never written, whatever our guarantee is
        consumer._auto_offset_reset = "none"  # it would pass over records, or go back, without a word
        subscribed = consumer._subscription
        assign = subscribed.assign_from_subscribed
        # A static member that is back with fewer sources is given what it had.
        subscribed.assign_from_subscribed = lambda given: assign({tp for tp in given if tp.topic in subscribed.topics})
        settings = cast(Any, self.app).settings
        if settings.static_membership:
            consumer._group_instance_id = member_id(settings)
        return consumer

    async def on_start(self) -> None:
        """Start, and note when each heartbeat or sync that was answered well had been sent: it renews the lease."""
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator
        send = coordinator._send_req
        settings = cast(Any, self.app).settings
        cast(Any, self.app).assignor.ask_for_rebalance = coordinator.request_rejoin
        static_session_s = settings.session_timeout_s if settings.static_membership else None
        self.joining = joining = Joining(self._consumer, coordinator.group_id, static_session_s)
        self._watching = asyncio.get_running_loop().create_task(joining.watch())

        async def noted(request: Any) -> Any:
            sent_at_s = lease_now_s()
            if isinstance(request, JoinGroupRequest) and joining.failure is not None:
                raise KafkaConnectionError("not joining again")  # we would drive out who has taken our place
            answer = await send(request)
            if isinstance(request, HeartbeatRequest | SyncGroupRequest) and answer.error_code in STILL_MEMBER:
                self.heartbeat_at_s = sent_at_s
                joining.joined()
            elif isinstance(request, OF_MEMBERS):
                joining.answered(answer.error_code, heartbeat=isinstance(request, HeartbeatRequest))
            return answer

        coordinator._send_req = noted
        # Partitions that nobody is given are no reason for a rebalance.
        counted = coordinator._get_metadata_snapshot
        coordinator._get_metadata_snapshot = lambda: cast(Any, self.app).assignor.assigned_counts(counted())

    async def on_thread_stop(self) -> None:
        """Leave the group, but don't wait long for a broker that doesn't answer."""
        await super(driver.AIOKafkaConsumerThread, self).on_thread_stop()
        if self._watching is not None:
            self._watching.cancel()
        if self._consumer is not None:
            await stopped(self._consumer.stop(), LEAVE_TIMEOUT_S)

    def failure(self) -> BaseException | None:
        """Why this process can't be a member of the group any more, if so: aiokafka only logs it."""
        return self.joining.failure if self.joining is not None else None

    @property
    def trouble(self) -> tuple[float, str] | None:
        """What has kept this process out of the group: since when (time.monotonic), and the last error's text."""
        return self.joining.trouble if self.joining is not None else None

    async def fetch(self, partitions: set[TP], timeout_s: float) -> dict[TP, Fetched]:
        """What has arrived for these topic-partitions, waiting at most `timeout_s` for the first of it.

        Unreadable, from then on always: aiokafka has moved positions past records that it didn't return.
        """
        return cast(dict[TP, Fetched], await self.call_thread(self._fetch, partitions, timeout_s))

    async def _fetch(self, partitions: set[TP], timeout_s: float) -> dict[TP, Fetched]:
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():  # also what says that we are alive (max.poll.interval)
            if not partitions:
                await asyncio.sleep(timeout_s)
                return {}
            records = await self._records(fetcher, partitions, timeout_s)
        fetched: dict[TP, Fetched] = {}
        subscription = consumer._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        for tp in partitions:
            cursor = self.cursors.get(tp)
            state = assignment.state_value(tp) if assignment is not None else None
            if cursor is None or state is None or not state.has_valid_position:
                continue
            if self._outside and (moved := self._outside.pop(tp, None)) is not None:
                fetched[tp] = moved
                consumer.seek(tp, moved.end)  # what has been fetched from there meanwhile comes after this
                continue
            got = records.get(tp, [])
            if not got and state.position == cursor.position:
                continue
            fetched[TP(tp.topic, tp.partition)] = Fetched(cursor.seek, cursor.position, state.position, got)
            cursor.position = state.position
        return fetched

    async def _records(self, fetcher: Any, partitions: set[TP], timeout_s: float) -> Mapping[Any, list[Record]]:
        if self._unreadable is not None:
            raise self._unreadable
        if self._outside.keys() & partitions:
            return {}  # first what has happened to a log, then what it holds
        try:
            fetched: Mapping[Any, list[Record]] = await fetcher.fetched_records(
                partitions, timeout=timeout_s, max_records=None
            )
        except Unreadable as error:
            self._unreadable = error
            raise
        except OffsetOutOfRangeError as error:
            for where in error.args[0]:
                await self._to_beginning(where)
            return {}
        except NoOffsetForPartitionError:
            return {}  # assigned a moment ago: the takeover will seek
        return fetched

    async def rewind(self, tp: TP, was: int) -> Fetched | None:
        """Go to the beginning of a log that has lost its end; what the unit is told. None when it can't be done now, or
        the log still reaches `was`: one answer may have come from a leader of before.
        """
        return cast(Fetched | None, await self.call_thread(self._rewind, TopicPartition(tp.topic, tp.partition), was))

    async def _rewind(self, where: TopicPartition, was: int) -> Fetched | None:
        moved = await self._to_beginning(where, was)
        if moved is not None:
            self._outside[where] = moved._replace(log_end=None)  # whoever asked knows
        return moved

    async def _to_beginning(self, where: TopicPartition, was: int | None = None) -> Fetched | None:
        consumer, cursor = self._ensure_consumer(), self.cursors.get(where)
        if cursor is None:
            return None
        try:
            async with asyncio.timeout(BEGINNING_TIMEOUT_S):
                beginning = (await consumer.beginning_offsets([where]))[where]
                end = (await uncommitted(consumer).end_offsets([where], None))[where]
            if self.cursors.get(where) is not cursor or (was is not None and end >= was):
                return None  # somebody else was quicker, or nothing is lost
            consumer.seek(where, beginning)
        except (KafkaError, TimeoutError) as error:
            self.log.warning("%s[%d]: where its log begins: %s: %s", *where, type(error).__name__, error)
            return None
        self.cursors[where] = Cursor(cursor.seek, beginning)
        pending = self._outside.get(where)
        start = cursor.position if pending is None else max(pending.start, cursor.position)
        self._outside[where] = moved = Fetched(cursor.seek, start, beginning, [], end)
        return moved

    async def seek_all(self, positions: Mapping[TP, int]) -> dict[TP, int]:
        """Fetch from these offsets on; the number of each seek, which its batches will carry."""
        return cast(dict[TP, int], await self.call_thread(self._seek_all, positions))

    async def _seek_all(self, positions: Mapping[TP, int]) -> dict[TP, int]:
        consumer, numbers = self._ensure_consumer(), {}
        for tp, offset in positions.items():
            where = TopicPartition(tp.topic, tp.partition)
            consumer.seek(where, offset)
            self._seeks += 1
            self.cursors[where] = Cursor(self._seeks, offset)
            self._outside.pop(where, None)
            numbers[tp] = self._seeks
        return numbers

    async def hold(self, partitions: Iterable[TP]) -> None:
        """Never fetch these: changelogs, which the takeover reads by a consumer of its own."""
        await self.call_thread(self._hold, list(partitions))

    async def _hold(self, partitions: list[TP]) -> None:
        consumer = self._ensure_consumer()
        consumer.pause(*(TopicPartition(tp.topic, tp.partition) for tp in partitions))

    async def committed(self, partitions: Iterable[TP]) -> dict[TP, Committed | None]:
        """The committed offset of each, None without one; KafkaError when the broker can't say now."""
        return cast(dict[TP, Committed | None], await self.call_thread(self._committed, list(partitions)))

    async def _committed(self, partitions: list[TP]) -> dict[TP, Committed | None]:
        consumer = self._ensure_consumer()
        wanted = [TopicPartition(tp.topic, tp.partition) for tp in partitions]
        async with asyncio.timeout(OFFSETS_TIMEOUT_S):
            stored = await consumer._coordinator.fetch_committed_offsets(wanted)  # one request instead of one each
            seen = await self._see_topics({tp.topic for tp in partitions})
        for where, commit in list(stored.items()):
            if commit.offset < 0 or self.lives.is_old(where, commit, seen.get(where.topic)):
                del stored[where]
        self.lives.begin(seen)
        return {
            tp: Committed.of(*stored[where]) if where in stored else None
            for tp, where in zip(partitions, wanted, strict=True)
        }

    @property
    def topic_ids(self) -> Mapping[str, str]:
        """topic → id of the one that the units here read."""
        return self.lives.ids

    async def see_topics(self, names: Iterable[str]) -> dict[str, TopicSeen | None]:
        """Which of these topics there are now; None for one that isn't."""
        return cast(dict[str, TopicSeen | None], await self.call_thread(self._see_topics, list(names)))

    async def _see_topics(self, names: Iterable[str]) -> dict[str, TopicSeen | None]:
        """Asks a broker; a client that knows otherwise is made to look too, and asks for a rebalance if need be."""
        consumer = self._ensure_consumer()
        client = consumer._client
        async with asyncio.timeout(OFFSETS_TIMEOUT_S):
            seen = await see_topics(client, names)
        known = {name: len(client.cluster.partitions_for_topic(name) or ()) for name in consumer.subscription()}
        if any(
            known.get(name, 0) != (found.partitions if found else 0) for name, found in seen.items() if name in known
        ):
            client.force_metadata_update()
        return seen

    def has(self, topic: str) -> bool:
        """Whether the cluster has this topic of ours, as far as the client knows."""
        return bool(self._ensure_consumer()._client.cluster.partitions_for_topic(topic))

    async def rejoin(self) -> None:
        """Ask the group for a rebalance: whoever is given a partition then takes it over anew."""
        await self.call_thread(self._rejoin)

    async def _rejoin(self) -> None:
        self._ensure_consumer()._coordinator.request_rejoin()

    async def beginnings(self, partitions: Iterable[TP]) -> dict[TP, int]:
        """The first offset that each still has."""
        return cast(dict[TP, int], await self.call_thread(self._beginnings, list(partitions)))

    async def _beginnings(self, partitions: list[TP]) -> dict[TP, int]:
        wanted = [TopicPartition(tp.topic, tp.partition) for tp in partitions]
        async with asyncio.timeout(OFFSETS_TIMEOUT_S):
            found = await self._ensure_consumer().beginning_offsets(wanted)
        return {tp: found[where] for tp, where in zip(partitions, wanted, strict=True)}

    async def ends(self, partitions: Iterable[TP], timeout_s: float) -> dict[TP, LogEnds]:
        """Where each log ends; TimeoutError after `timeout_s`, when nothing waits any more."""
        return cast(dict[TP, LogEnds], await self.call_thread(self._ends, list(partitions), timeout_s))

    async def _ends(self, partitions: list[TP], timeout_s: float) -> dict[TP, LogEnds]:
        wanted, consumer = [TopicPartition(tp.topic, tp.partition) for tp in partitions], self._ensure_consumer()
        async with asyncio.timeout(timeout_s):  # here, since a caller that goes away doesn't end what it asked for
            stable = await consumer.end_offsets(wanted)  # first: what comes between the two isn't held back
            high = await uncommitted(consumer).end_offsets(wanted, None)
        return {tp: LogEnds(stable[where], high[where]) for tp, where in zip(partitions, wanted, strict=True)}

    async def commit(self, offsets: Any) -> bool:
        """Commit what the units finished; nothing once the thread has crashed: the changelogs say it too."""
        return not self.thread_loop.is_closed() and bool(await super().commit(offsets))

    def _stopped_set(self) -> None:
        if not self.thread_loop.is_closed():
            super()._stopped_set()

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; a failure is logged and tried again at the next interval: redo is harmless, a crash isn't."""
        consumer = self._ensure_consumer()
        assigned = self.assignment()
        wanted = {
            where: self.lives.commit(where, offset)
            for tp, offset in offsets.items()
            if tp in assigned and (where := TopicPartition(tp.topic, tp.partition))
        }
        if not wanted:
            return False
        try:
            timeout_s = LAST_COMMIT_TIMEOUT_S if self.app.should_stop else COMMIT_TIMEOUT_S
            await asyncio.wait_for(consumer.commit(wanted), timeout_s)
        except (CommitFailedError, IllegalStateError) as error:
            self.log.info("offsets not committed, the group is rebalancing: %s", error)
            return False
        except (KafkaError, TimeoutError) as error:
            self.log.warning("offsets not committed, trying again: %s %s", type(error).__name__, error)
            return False
        now = time.monotonic()
        self.tp_last_committed_at.update(dict.fromkeys(offsets, now))
        return True


class BatchConsumer(driver.Consumer):
    """Faust's consumer, feeding units."""

    app: Any  # our App; Faust declares the type of its own
    _thread: BatchConsumerThread

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def group(self) -> BatchConsumerThread:
        """The thread with the group membership."""
        return self._thread

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ARG002 - Faust's
        """Batches for units that have room; with none, only the sign of life."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]  # an asyncio.Event is fine
        units = self.app.units
        room = units.with_room()
        if not room:
            units.context.room.clear()
            try:
                await asyncio.wait_for(units.context.room.wait(), 0.2)
            except TimeoutError:
                await self._thread.fetch(set(), 0.0)
            return
        fetched = await self._thread.fetch(room, 1.0 if units.all_have_room(room) else 0.05)
        if self.should_stop or not self.flow_active:
            return  # what was taken is fetched again: the takeover seeks
        generation = self.app.consumer_generation_id
        for tp, (seek, start, end, records, log_end) in fetched.items():
            if log_end is not None:
                self.app.source_logs.outside(tp, start, end, log_end)
            position = start
            for stop, chunk in chunks(records, end, units.batch_records_max):
                batch = Batch(tp.topic, tp.partition, position, stop, seek, chunk)
                position = stop
                units.reserve(tp)
                yield tp, self._message(tp, batch, generation)

    @staticmethod
    def _message(tp: TP, batch: Batch, generation: int) -> ConsumerMessage:
        payload = cast(Any, batch)  # Faust passes the value on as it is
        at_ms = batch.records[-1].timestamp if batch.records else 0
        return ConsumerMessage(
            tp.topic, tp.partition, batch.end - 1, at_ms / 1000, 0,
            [], None, payload, None, 0, 0, tp, generation_id=generation,
        )  # fmt: skip

    async def _drain_messages(self, fetcher: Any) -> None:
        """Hand batches to Faust's conductor; nothing is tracked per message, the units know what is finished."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                async for _, message in self.getmany(timeout=1.0):
                    await self.callback(message)
                await asyncio.sleep(0)
        except (Unreadable, *DENIED) as error:
            self.app.fatal(error)
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not (self.app.should_stop or fetcher.should_stop):
                raise

    def track_message(self, message: Any) -> None:
        """Nothing: Faust must not wait for acks that never come; units are stopped by the takeover."""

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:  # noqa: ARG002
        """Commit the contiguous finished position of every source partition that moved since the last time.

        With exactly_once there is nothing to do: each unit's transactions hold its positions.
        """
        if self.app.settings.exactly_once:
            return False
        units = self.app.units
        offsets = units.uncommitted()
        if not offsets:
            return False
        done = bool(await self._thread.commit(offsets))
        if done:
            units.note_committed(offsets)
        return done

    async def perform_seek(self) -> None:
        """Nothing: the takeover seeks to where each unit continues."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust's check logs an error for a partition that merely waits; ours is the blocked gauge."""


class Producer(driver.Producer):
    """Faust's producer (`topic.send`), of the same cluster as everything else in the process."""

    app: Any

    def _settings_auth(self) -> Mapping[str, Any]:
        password_file = self.app.settings.sasl_password_file
        return {
            **super()._settings_auth(),
            "cluster_memory": self.app.cluster_memory,
            "password_file": password_file,
        }


class BatchTransport(driver.Transport):
    """Faust's Kafka transport with our consumer."""

    Consumer = BatchConsumer
    Producer = Producer
