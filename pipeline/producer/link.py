"""The way to the cluster. What sends is written against `Link`; tests script one, `KafkaLink` is aiokafka."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError
from aiokafka.producer.message_accumulator import BatchBuilder

from pipeline.closing import abandoned, ended
from pipeline.core.backoff import Backoff
from pipeline.kafka.memory import ClusterMemory
from pipeline.kafka.patches import apply_patches
from pipeline.producer.codes import teach_aiokafka
from pipeline.producer.errors import BadPartition, NonExistingTopic, NotAvailable
from pipeline.producer.message import Letter

log = logging.getLogger("hardparts.producer")

REQUEST_TIMEOUT_MS = 10_000
START_TIMEOUT_S = 15.0
CLOSE_TIMEOUT_S = 2.0
BATCH_BYTES_MAX = 1_000_000
"""One record batch; the broker's default limit is 1,048,588 bytes."""


class Sent(NamedTuple):
    """What one request put on the topic: the first `messages` of it. offset: of the first; -1 when not told."""

    offset: int
    messages: int


class Link(Protocol):
    """A cluster, as the producer needs it."""

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises NonExistingTopic (the cluster says so), NotAvailable, KafkaError."""

    async def send(self, topic: str, partition: int, messages: Sequence[Letter], at_ms: int | None = None) -> Sent:
        """Append them in order, and wait for the ack. Raises what went wrong; then they may or may not be there.

        at_ms: the time that they all get; None: each has its own.
        NonExistingTopic, BadPartition, NotAvailable, KafkaError. After an error the next call uses a fresh producer.
        """

    async def refresh(self) -> None:
        """Ask the cluster anew for what it knows of topics. Raises NotAvailable."""

    async def close(self) -> None:
        """Stop sending now; what was on its way may or may not arrive."""


class _Line:
    """One aiokafka producer, and how many requests it carries."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.producer = producer
        self.requests = 0
        self.retired = False


class KafkaLink:
    """aiokafka's idempotent producer, replaced by a fresh one after each error that it doesn't retry by itself.

    A batch that failed leaves a hole in the producer's sequence numbers: the broker refuses what follows, for ever.
    options: aiokafka's, `bootstrap_servers` and those of security among them; `cluster_memory` is what its producers
    know of the cluster, and whoever else is given the same one.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        apply_patches()
        teach_aiokafka()
        self._options = {"cluster_memory": ClusterMemory(), **options}
        self._line: _Line | None = None
        self._starting: asyncio.Task[_Line] | None = None
        self._lines: set[_Line] = set()
        self._cool_down, self._failures, self._next_try = Backoff(0.2, 2.0), 0, 0.0
        self._closed = False

    async def partitions(self, topic: str) -> int:
        """As Link says."""
        line = await self._connected()
        return await self._count(line, topic)

    async def send(self, topic: str, partition: int, messages: Sequence[Letter], at_ms: int | None = None) -> Sent:
        """As Link says."""
        line = await self._connected()
        with self._using(line):
            if partition >= await self._count(line, topic):
                await line.producer.client.force_metadata_update()
                count = await self._count(line, topic)
                if partition >= count:
                    raise BadPartition(f"{topic} has {count} partitions, there is no partition {partition}")
            batch = line.producer.create_batch()
            count = fill(batch, messages, at_ms)
            try:
                acked = await line.producer.send_batch(batch, topic, partition=partition)
                metadata = await acked
            except BaseException:
                self._retire(line)
                raise
            return Sent(-1 if metadata is None else int(metadata.offset), count)

    async def refresh(self) -> None:
        """As Link says."""
        line = await self._connected()
        if not await line.producer.client.force_metadata_update():
            raise NotAvailable("no broker tells about topics now")

    async def close(self) -> None:
        """As Link says."""
        self._closed = True
        if self._starting is not None:
            await ended(self._starting)
        await asyncio.gather(*(abandoned(line.producer, CLOSE_TIMEOUT_S) for line in self._lines))
        self._lines.clear()
        self._line = None

    async def _count(self, line: _Line, topic: str) -> int:
        client = line.producer.client
        known = client.cluster.partitions_for_topic(topic)
        if known is None:
            await client.add_topic(topic)
            answered = await client.force_metadata_update()
            known = client.cluster.partitions_for_topic(topic)
            if known is None:
                if topic in client.cluster.unauthorized_topics:
                    raise TopicAuthorizationFailedError(topic)
                if not answered:
                    raise NotAvailable(f"no broker tells about topic {topic} now")
                raise NonExistingTopic(f"topic {topic} doesn't exist")
        return len(known)

    async def _connected(self) -> _Line:
        """A producer that has started; all who need one wait for the same. Raises NotAvailable."""
        if self._line is not None:
            return self._line
        if self._closed:
            raise NotAvailable("the producer is being stopped")
        if self._starting is None or self._starting.done():
            self._starting = asyncio.get_running_loop().create_task(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> _Line:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._next_try - loop.time())
        client = self._options
        producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_batch_size=BATCH_BYTES_MAX,
            **client,
        )
        line = _Line(producer)
        self._lines.add(line)
        try:
            await asyncio.wait_for(producer.start(), START_TIMEOUT_S)
        except (KafkaError, OSError, TimeoutError) as error:
            self._failures += 1
            self._next_try = loop.time() + self._cool_down.delay_s(self._failures, random.uniform)
            await self._drop(line)
            raise NotAvailable(f"no broker answers: {error or type(error).__name__}") from error
        except BaseException:
            await self._drop(line)
            raise
        self._failures, self._next_try = 0, 0.0
        self._line = line
        return line

    @contextlib.contextmanager
    def _using(self, line: _Line) -> Iterator[None]:
        line.requests += 1
        try:
            yield
        finally:
            line.requests -= 1
            if line.retired and not line.requests and line in self._lines:
                self._ending = asyncio.get_running_loop().create_task(self._drop(line))

    def _retire(self, line: _Line) -> None:
        """Nothing new goes through it; it ends when the other lanes' requests have ended."""
        line.retired = True
        if self._line is line:
            self._line = None

    async def _drop(self, line: _Line) -> None:
        self._lines.discard(line)
        await abandoned(line.producer, CLOSE_TIMEOUT_S)


def fill(batch: BatchBuilder, messages: Sequence[Letter], at_ms: int | None = None) -> int:
    """Close a batch with as many of the messages as it takes; how many.

    Straight into the compiled builder: `BatchBuilder.append` around it costs as much again as what it does.
    """
    append, count = batch._builder.append, 0
    for message in messages:
        if append(count, at_ms or message.timestamp_ms, message.key, message.value, message.headers) is None:
            break
        count += 1
    batch._relative_offset = count
    batch.close()
    return count
