"""Emptying the lanes: one request a lane at a time, so that a retry can't overtake what it repeats."""

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

from aiokafka.errors import KafkaError

from pipeline.core.backoff import Backoff
from pipeline.core.routing import DEFAULT, PartitionerName, partition_of
from pipeline.producer.buffer import Buffer
from pipeline.producer.codes import Fate, code_of, fate_of, name_of
from pipeline.producer.errors import BadPartition, NonExistingTopic, ProducerError, Undeliverable
from pipeline.producer.lane import Lane
from pipeline.producer.link import BATCH_BYTES_MAX, Link, Sent
from pipeline.producer.message import Letter
from pipeline.producer.restarts import Restarts
from pipeline.producer.rows import LaneId

log = logging.getLogger("hardparts.producer")

MESSAGES_MAX = 20_000
ENOUGH = 500
"""Messages of a lane that don't linger for more."""
DOUBTS_MAX = 4
BYTES_FLOOR = 1_000
ANSWERS_APART_MAX_S = 5.0
"""Of the time between two answers that a topic is missing so much counts: before that nobody may have answered."""
FRESH_MS = 1_000
INVALID_TIMESTAMP = "INVALID_TIMESTAMP"
TIME_REFUSED = (
    "Not even the time of sending is taken: compare this machine's clock with the broker's, and see the topic's "
    "message.timestamp.after.max.ms and message.timestamp.before.max.ms."
)


@dataclass(slots=True)
class Search:
    """The state of finding a culprit in a lane. suspects: the oldest so many messages hold one.

    missing_s: for how long the cluster has said that the topic or partition isn't there; missing_at: when it last did,
    None after it didn't answer. own_time: the topic refuses the time when one of the oldest so many messages was
    taken, so they go out under the time of their sending. said: the last failure that was logged: it is told once, not
    at each attempt.
    """

    suspects: int = 0
    doubts: int = 0
    attempts: int = 0
    bytes_max: int = BATCH_BYTES_MAX
    missing_s: float = 0.0
    missing_at: float | None = None
    own_time: int = 0
    said: str = ""
    restarts: Restarts = field(default_factory=Restarts)

    @property
    def messages_max(self) -> int:
        """How many to send next: half of the suspects, so that each request tells which half it is."""
        most = max(1, self.suspects // 2) if self.suspects else MESSAGES_MAX
        return min(most, self.own_time) if self.own_time else most

    def missing(self, now_s: float) -> float:
        """The cluster says that the topic or partition isn't there: for how long it has said so, in seconds."""
        if self.missing_at is not None:
            self.missing_s += min(now_s - self.missing_at, ANSWERS_APART_MAX_S)
        self.missing_at = now_s
        return self.missing_s

    def sent(self, count: int) -> None:
        """So many are through."""
        if not self.own_time:  # older ones may follow, which are refused in the same way
            self.said = ""
        self.suspects = max(0, self.suspects - count)
        self.own_time = max(0, self.own_time - count)
        self.attempts = 0
        self.missing_s, self.missing_at = 0.0, None
        if not self.suspects:
            self.doubts = 0


class Sending:
    """Sends what the lanes hold.

    refused: told of (lane, messages, error, attempts) that are given up, before they leave the buffer. counted: told of
    a topic's count of partitions.
    """

    def __init__(
        self,
        buffer: Buffer,
        link: Link,
        refused: Callable[[Lane, Sequence[Letter], ProducerError, int], None],
        counted: Callable[[str, int], None],
        *,
        linger_s: float,
        missing_after_s: float,
        backoff: Backoff,
        partitioners: Mapping[str, PartitionerName],
    ) -> None:
        self._buffer, self._link, self._refused, self._counted = buffer, link, refused, counted
        self._partitioners = partitioners
        self._linger_s, self._missing_after_s = linger_s, missing_after_s
        self._backoff = backoff

    async def run(self, lane: Lane) -> None:
        """Send a lane's messages for ever. A failure of our own leaves them where they are, and is tried again."""
        search = Search()
        while True:
            try:
                await self._round(lane, search)
            except asyncio.CancelledError:
                raise
            except Exception:
                search.attempts += 1
                log.exception("%s[%s]: sending failed, trying again", *lane.id)
                await asyncio.sleep(self._backoff.delay_s(search.attempts, random.uniform))

    async def _round(self, lane: Lane, search: Search) -> None:
        lane.wake.clear()
        if self._linger_s and len(lane) < ENOUGH and not search.suspects:
            if not len(lane):
                await lane.wake.wait()
            # Until a tick that all lanes have in common: what they send at once shares a request to each broker.
            await asyncio.sleep(self._linger_s - asyncio.get_running_loop().time() % self._linger_s)
            lane.wake.clear()
        if not len(lane) or not (messages := self._take(lane, search)):
            await lane.wake.wait()
            return
        try:
            await self._send(lane, messages, search)
        except (ProducerError, KafkaError, OSError, TimeoutError) as error:
            await self._failed(lane, messages, error, search)
        except Exception as error:
            if search.restarts.allows(error):
                raise
            await self._escalate(lane, messages, error, search)

    async def _escalate(self, lane: Lane, messages: Sequence[Letter], error: Exception, search: Search) -> None:
        """A fault of our own goes on: halve to one message, which is given up if the cluster answers."""
        if len(messages) > 1:
            search.suspects = len(messages)
            return
        await self._link.refresh()
        search.attempts = search.restarts.failures
        where = f"{lane.id.topic}[{lane.id.partition}]"
        final = Undeliverable("escalated", None, f"{where}: sending failed {search.attempts} times: {error!r}")
        self._give_up(lane, messages, final, search)
        search.suspects, search.attempts, search.restarts = 0, 0, Restarts()

    def _take(self, lane: Lane, search: Search) -> list[Letter]:
        share = max(BYTES_FLOOR, min(search.bytes_max, self._buffer.limits.memory_bytes // 4))
        most = max(1, min(search.messages_max, self._buffer.limits.memory_messages // 4))
        return self._buffer.take(lane, share, most)

    async def _send(self, lane: Lane, messages: Sequence[Letter], search: Search) -> None:
        topic, partition = lane.id
        if partition is not None:
            sent = await self._request(topic, partition, messages, search)
            count = sent.messages
            self._buffer.confirm(lane, count, zip(repeat(lane.id), offsets(sent), strict=False))
        else:
            places = await self._send_by_key(topic, messages, search)
            count = len(places)
            self._buffer.confirm(lane, count, places)
        search.sent(count)

    async def _request(self, topic: str, partition: int, messages: Sequence[Letter], search: Search) -> Sent:
        if search.own_time:
            return await self._link.send(topic, partition, messages, time.time_ns() // 1_000_000)
        return await self._link.send(topic, partition, messages)

    async def _send_by_key(self, topic: str, messages: Sequence[Letter], search: Search) -> list[tuple[LaneId, int]]:
        """Messages whose partition wasn't known when they came: a request for each partition, all of them acked."""
        count = await self._link.partitions(topic)
        self._counted(topic, count)
        partitioner = self._partitioners.get(topic, DEFAULT)
        groups: dict[int, list[Letter]] = defaultdict(list)
        where = []
        for number, message in enumerate(messages):
            partition = number % count if message.key is None else partition_of(message.key, count, partitioner)
            groups[partition].append(message)
            where.append(partition)
        requests = (self._request(topic, partition, group, search) for partition, group in groups.items())
        results = await asyncio.gather(*requests, return_exceptions=True)
        found: dict[int, Iterator[int]] = {}
        for partition, result in zip(groups, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            found[partition] = offsets(result)
        places: list[tuple[LaneId, int]] = []
        for partition in where:
            offset = next(found[partition], None)
            if offset is None:
                break  # a request that took fewer: what follows is sent again
            places.append((LaneId(topic, partition), offset))
        return places

    async def _failed(self, lane: Lane, messages: Sequence[Letter], error: Exception, search: Search) -> None:
        search.attempts += 1
        fate = self._fate(error, search)
        if self._under_another_time(messages, error, search):
            self._say(lane, error, Fate.AGAIN, search)
            search.own_time = len(messages)
            return
        self._say(lane, error, fate, search, TIME_REFUSED if name_of(error) == INVALID_TIMESTAMP else "")
        if fate is Fate.BISECT and len(messages) > 1:
            search.suspects = len(messages)
            if name_of(error) in {"MESSAGE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"}:  # the batch may be it
                search.bytes_max = max(BYTES_FLOOR, sum(message.size for message in messages) // 2)
            return
        if fate in (Fate.BISECT, Fate.REFUSED):
            self._give_up(lane, messages, error, search)
            search.suspects, search.doubts, search.attempts, search.bytes_max = 0, 0, 0, BATCH_BYTES_MAX
            search.own_time = max(0, search.own_time - len(messages))
            search.missing_s, search.missing_at = 0.0, None
            return
        await asyncio.sleep(self._backoff.delay_s(search.attempts, random.uniform))

    def _under_another_time(self, messages: Sequence[Letter], error: Exception, search: Search) -> bool:
        """Whether the time of sending may be taken where that of these messages was refused."""
        refused = name_of(error) == INVALID_TIMESTAMP and not search.own_time
        return refused and (self._buffer.durable or _have_waited(messages))

    def _fate(self, error: Exception, search: Search) -> Fate:
        if isinstance(error, NonExistingTopic | BadPartition):
            missing_s = search.missing(asyncio.get_running_loop().time())
            return Fate.REFUSED if missing_s >= self._missing_after_s else Fate.AGAIN
        search.missing_at = None
        if isinstance(error, ProducerError):
            return Fate.AGAIN
        if name_of(error) == INVALID_TIMESTAMP and self._buffer.durable:
            return Fate.AGAIN  # what was accepted keeps its order until the clock, or the topic's setting, is right
        fate = fate_of(error)
        if fate is Fate.DOUBTFUL:
            search.doubts += 1
            return Fate.AGAIN if search.doubts <= DOUBTS_MAX else Fate.BISECT
        return fate

    def _give_up(self, lane: Lane, messages: Sequence[Letter], error: Exception, search: Search) -> None:
        if isinstance(error, ProducerError):
            final = error
        else:
            where = f"{lane.id.topic}[{lane.id.partition}]"
            hint = f" {TIME_REFUSED}" if name_of(error) == INVALID_TIMESTAMP else ""
            final = Undeliverable(name_of(error).lower(), code_of(error), f"{where}: {name_of(error)}: {error}{hint}")
        self._refused(lane, messages, final, search.attempts)
        for _ in messages:
            self._buffer.refuse(lane, final)

    def _say(self, lane: Lane, error: Exception, fate: Fate, search: Search, hint: str = "") -> None:
        said = f"{lane.id.topic}[{lane.id.partition}] {name_of(error)}: {error} ({fate.value}) {hint}".rstrip()
        if said != search.said:
            now = f" It is {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} here." if hint else ""
            log.warning("not sent: %s%s", said, now)
            search.said = said


def _have_waited(messages: Sequence[Letter]) -> bool:
    """Whether the time of one of them isn't about now: it was taken long ago, or the clock went back."""
    now_ms = time.time_ns() // 1_000_000
    return any(abs(now_ms - message.timestamp_ms) > FRESH_MS for message in messages)


def offsets(sent: Sent) -> Iterator[int]:
    """The offset of each message of a request; -1 for each when it wasn't told."""
    return iter(range(sent.offset, sent.offset + sent.messages)) if sent.offset >= 0 else repeat(-1, sent.messages)
