"""The producer itself: the one class that applications use."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from pipeline.closing import ended
from pipeline.core.backoff import Backoff
from pipeline.core.routing import DEFAULT, PartitionerName, partition_of
from pipeline.kafka.memory import ClusterMemory, OtherCluster
from pipeline.kafka.patches import apply_patches
from pipeline.producer.arguments import (
    PARTITION_MAX,
    Payload,
    check_headers,
    check_key,
    check_partition,
    check_payload,
    check_topic,
    size_of,
)
from pipeline.producer.buffer import Buffer
from pipeline.producer.consuming import Consumption
from pipeline.producer.errors import (
    BadPartition,
    FetchInProgress,
    NotConsuming,
    SpillUnusable,
    Stopped,
)
from pipeline.producer.flushing import Flushing
from pipeline.producer.lane import Lane
from pipeline.producer.limits import Limits, Load
from pipeline.producer.link import KafkaLink, Link
from pipeline.producer.message import (
    NO_HEADERS,
    OVERHEAD_BYTES,
    Delivery,
    Headers,
    Message,
    Single,
    Undelivered,
)
from pipeline.producer.refusing import Refusing
from pipeline.producer.rows import LaneId
from pipeline.producer.sending import Sending
from pipeline.producer.spill import Spill
from pipeline.producer.undelivered import from_row

log = logging.getLogger("hardparts.producer")

LINGER_S = 0.005
CHECK_S = 5.0
MISSING_AFTER_S = 30.0
COOL_DOWN = Backoff(0.1, 2.0)
RESTART_AFTER_S = 0.5


class ReliableProducer:
    """Answers for messages until the broker has them: `async with ReliableProducer(options) as producer`.

    options: aiokafka's, `bootstrap_servers` and those of security. spill: an existing directory of this process's own
    for what memory doesn't hold; None: no disk. durable: a message is accepted when it is flushed to the spill, not
    only when the broker has it. partitioners: topic → the hash that puts a key into its partition, where it isn't
    Java's murmur2; all producers of a topic must use the same. missing_after_s: how long a topic or partition must be
    missing, with the cluster answering, before its messages are given up. on_undelivered: told of each message that is
    refused for good. on_trouble: told when the spill begins to fail, and (None) when it works again. backoff: between
    attempts to send. link: instead of aiokafka.

    Raises SpillUnusable and SpillInUse when it starts, never because a broker is away.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        *,
        spill: Path | None = None,
        durable: bool = False,
        limits: Limits | None = None,
        partitioners: Mapping[str, PartitionerName] = MappingProxyType({}),
        linger_s: float = LINGER_S,
        check_s: float = CHECK_S,
        missing_after_s: float = MISSING_AFTER_S,
        on_undelivered: Callable[[Undelivered], None] | None = None,
        on_trouble: Callable[[SpillUnusable | None], None] | None = None,
        link: Link | None = None,
        backoff: Backoff = COOL_DOWN,
    ) -> None:
        if durable and spill is None:
            raise ValueError("durable means on the disk: name a spill directory")
        apply_patches()
        self._spill_directory, self._durable = spill, durable
        self._cluster_memory: ClusterMemory = options.get("cluster_memory") or ClusterMemory()
        self._options = {**options, "cluster_memory": self._cluster_memory}
        self._limits, self._partitioners = limits or Limits(), partitioners
        self._linger_s, self._check_s, self._missing_after_s = linger_s, check_s, missing_after_s
        self._on_undelivered, self._on_trouble = on_undelivered, on_trouble
        self._given_link, self._backoff = link, backoff
        self._counts: dict[str, int] = {}
        self._fetches: dict[tuple[str, int], Consumption] = {}
        self._tasks: dict[str | LaneId, asyncio.Task[None]] = {}
        self._running = False
        self._keyless = 0
        self._known: dict[tuple[str, int], Lane] = {}
        self._flushing: Flushing | None = None
        self._spill: Spill | None = None
        self._stopping: asyncio.Task[int] | None = None

    async def start(self) -> None:
        """Test and open the spill, take up what an earlier process left there, begin to send."""
        if self._spill_directory is not None:
            self._spill = Spill(self._spill_directory, self._limits.disk_free_bytes_min)
            self._counts = self._spill.counts()
        self._buffer = Buffer(self._limits, self._spill, self._durable, self._tell_trouble)
        self._link: Link = self._given_link or KafkaLink(self._options)
        self._sending = Sending(
            self._buffer,
            self._link,
            Refusing(self._spill, self._on_undelivered),
            self._note_count,
            linger_s=self._linger_s,
            missing_after_s=self._missing_after_s,
            backoff=self._backoff,
            partitioners=self._partitioners,
        )
        self._running = True
        if self._spill is not None:
            self._flushing = Flushing(self._buffer, self._spill, check_s=self._check_s)
            self._run("rounds", self._flushing.rounds)
            self._run("watch", self._flushing.watch)
        for lane in self._buffer.lanes.values():
            self._start_lane(lane)

    def produce(
        self,
        topic: str,
        partition: int | None,
        payload: Payload,
        *,
        key: bytes | None = None,
        headers: Headers = NO_HEADERS,
    ) -> Delivery:
        """Take a message, or each of a list in order; returns at once. partition None: the key decides.

        Raises BadTopic, BadPartition, BadPayload, BadKey, BadHeaders, BufferFull, Stopped; nothing was taken then. What
        only the cluster can tell comes with the Delivery: NonExistingTopic, BadPartition, Undeliverable.
        """
        if not self._running:
            raise Stopped("the producer isn't running")
        lane = self._known.get((topic, partition)) if type(partition) is int and type(topic) is str else None
        if lane is not None and key is None and headers is NO_HEADERS and type(payload) is bytes:
            return self._add_one(lane, None, payload, NO_HEADERS, OVERHEAD_BYTES + len(payload))
        check_key(key)
        values = check_payload(payload, key)
        pairs = NO_HEADERS if headers is NO_HEADERS else check_headers(headers)
        lane = self._lane(topic, partition, key)
        if len(values) == 1:
            return self._add_one(lane, key, values[0], pairs, size_of(key, values[0], pairs))
        delivery = Delivery(self._buffer.holder, len(values), stores=self._durable)
        timestamp_ms, size, messages = time.time_ns() // 1_000_000, 0, []
        for value in values:
            bytes_ = size_of(key, value, pairs)
            size += bytes_
            messages.append(Message(key, value, pairs, timestamp_ms, bytes_, delivery))
        self._buffer.add(lane, messages, size)
        if self._durable and self._flushing is not None:
            self._flushing.add(lane)
        return delivery

    def _add_one(self, lane: Lane, key: bytes | None, value: bytes | None, headers: Headers, size: int) -> Delivery:
        buffer, timestamp_ms = self._buffer, time.time_ns() // 1_000_000
        single = Single(key, value, headers, timestamp_ms, size, buffer.holder, self._durable)
        buffer.add_one(lane, single, size)
        if self._durable and self._flushing is not None:
            self._flushing.add(lane)
        return single

    def consume(self, topic: str, partition: int, start: int = 0) -> Consumption:
        """The records of a topic-partition from offset `start` on: `async for record in producer.consume("t", 0)`.

        Raises FetchInProgress when it is being consumed already.
        """
        where = check_topic(topic), check_partition(partition)
        if where in self._fetches:
            raise FetchInProgress(f"{topic}[{partition}] is being consumed: stop_consuming first")

        def ended() -> None:
            self._fetches.pop(where, None)

        self._fetches[where] = Consumption(self._options, topic, partition, start, self.request_metadata, ended)
        return self._fetches[where]

    async def stop_consuming(self, topic: str, partition: int) -> None:
        """End the iteration that `consume` began. Raises NotConsuming."""
        fetch = self._fetches.get((check_topic(topic), check_partition(partition)))
        if fetch is None:
            raise NotConsuming(f"nobody consumes {topic}[{partition}]")
        await fetch.stop()

    async def request_metadata(self, topic: str) -> int:
        """Ask the cluster how many partitions a topic has. Raises NonExistingTopic, NotAvailable."""
        check_topic(topic)
        await self._link.refresh()
        count = await self._link.partitions(topic)
        self._note_count(topic, count)
        return count

    def partitions(self) -> dict[str, int]:
        """topic → how many partitions it has, of those that were seen; asks nobody."""
        return dict(self._counts)

    def load(self) -> Load:
        """How much isn't confirmed yet, and where it is."""
        return self._buffer.load()

    def trouble(self) -> SpillUnusable | None:
        """Why this isn't ready to be relied on, if so: the spill directory fails its test."""
        return self._buffer.trouble

    def other_cluster(self) -> OtherCluster | None:
        """Set while the brokers' addresses lead to another cluster than the first one that this has seen.

        Nothing is sent there: what waits goes on waiting, and is sent when the first one answers again.
        """
        return self._cluster_memory.other

    async def drained(self) -> None:
        """Return when nothing waits any more."""
        await self._buffer.drained.wait()

    def undelivered(self) -> Iterator[Undelivered]:
        """Messages that were refused for good, kept in the spill until `discard`; one that is damaged is left out."""
        if self._spill is not None:
            for id_, row in self._spill.undelivered():
                try:
                    refused = from_row(id_, row)
                except (ValueError, TypeError):
                    log.exception("refused message %r can't be read", id_)
                else:
                    yield refused

    def discard(self, id_: str) -> None:
        """Forget a refused message."""
        if self._spill is not None:
            self._spill.discard(id_.encode())

    async def stop(self, timeout_s: float = 10.0) -> int:
        """Take nothing more, send what waits for up to `timeout_s`, then leave the rest; how many that is.

        With a spill it stays there for the next start; without one it is lost. Whoever waits for one gets Stopped.
        Cancelling the call doesn't cancel the stop: it ends by itself within the time, and a second call waits for it,
        or shortens the time.
        """
        if self._running:
            self._running, self._time_up = False, asyncio.Event()
            self._stopping = asyncio.get_running_loop().create_task(self._stop())
        elif self._stopping is None or self._stopping.done():
            return 0
        in_time = asyncio.get_running_loop().call_later(max(timeout_s, 0.0), self._time_up.set)
        try:
            return await asyncio.shield(self._stopping)
        finally:
            if self._stopping.done():
                in_time.cancel()

    async def _stop(self) -> int:
        try:
            for fetch in list(self._fetches.values()):
                await fetch.stop()
            waits = [asyncio.ensure_future(wait) for wait in (self.drained(), self._time_up.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        finally:  # the loop may end at each await, and cancel this: what waits is written to the disk all the same
            try:
                await ended(*self._tasks.values())
            finally:
                self._tasks.clear()
                left = await self._leave()
        return left

    async def _leave(self) -> int:
        """Write what waits to the spill, if there is one, tell who waits for it, and let go of Kafka and the spill.

        Nobody sends any more, so nothing is awaited before the writing.
        """
        left = self._buffer.load().messages
        try:
            stays = self._persist(left)
            self._buffer.end(Stopped(f"the producer was stopped before this was confirmed; {stays}"))
        finally:
            try:
                await self._link.close()
            finally:
                if self._flushing is not None and self._spill is not None:
                    try:
                        await self._flushing.close()
                    finally:
                        self._spill.close()
        return left

    def _persist(self, left: int) -> str:
        """What becomes of the messages that are left."""
        if self._spill is None:
            return "it is lost"
        try:
            self._buffer.persist()
        except SpillUnusable:
            log.exception("stopping with %d messages, of which some can't be written", left)
            return "what isn't on the disk is lost"
        return "it stays on the disk for the next start"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _lane(self, topic: str, partition: int | None, key: bytes | None) -> Lane:
        if partition is None:
            check_topic(topic)
            partition = self._by_key(topic, key)
        elif type(partition) is not int or type(topic) is not str:
            check_topic(topic)
            check_partition(partition)
        lane_id = LaneId(topic, partition)
        lane = self._buffer.lanes.get(lane_id)
        if lane is None:
            check_topic(topic)
            if partition is not None:
                check_partition(partition)
            lane = self._buffer.lane(lane_id)
            self._start_lane(lane)
        if partition is not None and partition >= self._counts.get(topic, PARTITION_MAX):
            raise BadPartition(f"{topic} has {self._counts[topic]} partitions, there is no partition {partition}")
        if partition is not None:
            self._known[topic, partition] = lane
        return lane

    def _by_key(self, topic: str, key: bytes | None) -> int | None:
        """The partition; None while the topic's count isn't known, and until what came meanwhile is through."""
        undecided, count = self._buffer.lanes.get(LaneId(topic, None)), self._counts.get(topic)
        if count is None or (undecided is not None and len(undecided)):
            return None
        if key is not None:
            return partition_of(key, count, self._partitioners.get(topic, DEFAULT))
        self._keyless += 1
        return self._keyless % count

    def _note_count(self, topic: str, count: int) -> None:
        if self._counts.get(topic) == count:
            return
        if self._spill is not None:
            try:
                self._spill.note_count(topic, count)
            except SpillUnusable as error:  # not used before it is kept: a restart must put a key where it was
                self._buffer.failing(error)
                return
        self._counts[topic] = count
        self._known.clear()

    def _tell_trouble(self, error: SpillUnusable | None) -> None:
        if self._on_trouble is not None:
            try:
                self._on_trouble(error)
            except Exception:
                log.exception("on_trouble failed")

    def _start_lane(self, lane: Lane) -> None:
        self._run(lane.id, lambda: self._sending.run(lane))

    def _run(self, name: str | LaneId, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tasks[name] = asyncio.get_running_loop().create_task(self._supervised(name, work))

    async def _supervised(self, name: str | LaneId, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A failure of our own ends no task for good: what it worked on is untouched."""
        while True:
            try:
                await work()
            except Exception:
                log.exception("%s failed, starting it again", name)
                await asyncio.sleep(RESTART_AFTER_S)
