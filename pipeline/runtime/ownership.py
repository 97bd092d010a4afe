"""A unit's producer: whoever starts it last owns the unit, and the broker refuses what an earlier owner still sends.

aiokafka's public API has fencing only inside transactions, at about 30 ms each. Here the producer starts as a
transactional one, so that InitProducerId raises the epoch of the unit's id, and then sends plain idempotent batches
that carry producer id and epoch: about 1 ms each. The one private attribute that this needs is cleared in `take`;
aiokafka is pinned and `tests/kafka/test_fencing.py` shows that it holds.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    RecordListTooLargeError,
)

from pipeline.closing import abandoned
from pipeline.core.errors import HardpartsError, OwnershipLost
from pipeline.core.state import Row

REQUEST_TIMEOUT_MS = 10_000
TRANSACTION_TIMEOUT_MS = 30_000
"""Then the broker aborts what nobody ended; until then it holds back readers of what is committed. A broker may allow
less (transaction.max.timeout.ms)."""
BATCH_BYTES_MAX = 900_000
"""One record batch; the broker's default limit is 1,048,588 bytes."""
OWNER_AGE_MAX_S = 2 * 24 * 3600.0
"""Then ownership is taken anew: brokers forget a transactional id that wasn't started for 7 days (Kafka's default), and
its next owner would get another producer id, which refuses nothing of the older one."""

LOG_APPEND_TIME = 1
ROW_OVERHEAD_BYTES = 32
_NO_HEADERS: list[tuple[str, bytes]] = []


class ProducerBroken(HardpartsError):
    """A produce error that isn't retried: later batches would fail too, so ownership is taken anew and work redone."""


class SizeRefused(ProducerBroken):
    """Too large for its topic by now."""


class TimeRefused(ProducerBroken):
    """A record has a time that its topic doesn't take. No record's fault: each is written under a time that is fine by
    this worker's clock.
    """


class ChangelogLost(HardpartsError):
    """The changelog has lost rows that it had acknowledged; only this worker's copy of the state is whole now."""


def _always() -> bool:
    return True


class Owner:
    """The fenced producer of one unit. After the first error it is of no use: `abandon` it and take ownership anew.

    holds_lease: asked right before each produce; without the lease another worker may own the unit already.
    fence: the id of this ownership, which stands in the changelog; "" before it does. clock_ahead_s: how far this
    machine's clock is ahead of the broker's, as its last ack that told the broker's time said; None without one.
    """

    TRANSACTIONAL = False
    TRANSACTION_TIMEOUT_MIN_MS = 1_000
    """It has no transactions; the broker wants a timeout all the same."""

    def __init__(self, producer: AIOKafkaProducer, unit: str, holds_lease: Callable[[], bool] = _always) -> None:
        self._producer = producer
        self.unit = unit
        self._holds_lease = holds_lease
        self.taken_at_s = time.monotonic()
        self.waiting_since: float | None = None
        self.fence = ""
        self.clock_ahead_s: float | None = None
        self._waits: dict[tuple[str, int], int] = {}

    @classmethod
    async def take(
        cls,
        bootstrap: Sequence[str],
        unit: str,
        security: dict[str, Any],
        holds_lease: Callable[[], bool] = _always,
        transaction_timeout_ms: int = TRANSACTION_TIMEOUT_MS,
    ) -> Self:
        """Become the owner of `unit`. Earlier owners are refused once this one has written where they write.

        InvalidTransactionTimeout: the broker allows less.
        """
        producer = AIOKafkaProducer(
            bootstrap_servers=list(bootstrap),
            client_id=unit,
            transactional_id=unit,
            transaction_timeout_ms=transaction_timeout_ms,
            acks="all",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=BATCH_BYTES_MAX + 100_000,
            **security,
        )
        try:
            await producer.start()
        except BaseException:
            await cls(producer, unit).abandon(1.0)
            raise
        if not cls.TRANSACTIONAL:
            producer._txn_manager.transactional_id = None
        return cls(producer, unit, holds_lease)

    @property
    def age_s(self) -> float:
        """Seconds since ownership was taken."""
        return time.monotonic() - self.taken_at_s

    @property
    def waits_for(self) -> list[str]:
        """`topic[partition]` of each record batch that isn't acknowledged yet, sorted."""
        return [f"{topic}[{partition}]" for topic, partition in sorted(self._waits)]

    async def partitions(self, topic: str) -> int:
        """How many partitions `topic` has; KafkaError when it doesn't exist."""
        return len(await self._producer.partitions_for(topic))

    async def begin(self) -> None:
        """What is sent from here to `commit` belongs together: nothing to do for batches that stand for themselves."""

    async def commit(
        self, offsets: Mapping[tuple[str, int], int], group: str, topic_ids: Mapping[str, str] | None = None
    ) -> None:
        """The end of it. offsets: source (topic, partition) → next one to read; here the group commits them later."""

    async def append_rows(
        self,
        topic: str,
        partition: int,
        events: Iterable[Sequence[Row]],
        bytes_max: int = BATCH_BYTES_MAX - 1000,
        closing: Callable[[int], Row] | None = None,
    ) -> int:
        """Append the rows of each event, an event's rows never split over two record batches; the next offset.

        bytes_max: of a record batch's rows; an event with more has a record batch of its own. closing: the last row of
        each record batch, given how many of the events stand in front of it.

        One record batch is in flight at a time, so that what is on the topic is always a prefix of the events.
        """
        builder, count, size = self._producer.create_batch(), 0, 0
        end, done = -1, 0
        for done, rows in enumerate(events, 1):
            bytes_more = 0
            for key, value in rows:
                bytes_more += len(key) + len(value or b"") + ROW_OVERHEAD_BYTES
            if count and size + bytes_more > bytes_max:
                if closing is not None:
                    count += self._close(builder, closing(done - 1))
                end = await self._send(builder, topic, partition) + count
                builder, count, size = self._producer.create_batch(), 0, 0
            append = builder.append
            for key, value in rows:
                if append(timestamp=None, key=key, value=value, headers=_NO_HEADERS) is None:
                    raise ProducerBroken(f"{self.unit}: rows of one event don't fit a record batch")
            count += len(rows)
            size += bytes_more
        if closing is not None:
            count += self._close(builder, closing(done))
        if count:
            end = await self._send(builder, topic, partition) + count
        return end

    def _close(self, builder: Any, row: Row) -> int:
        """Add the last row of a record batch; how many rows that is."""
        if builder.append(timestamp=None, key=row[0], value=row[1], headers=_NO_HEADERS) is None:
            raise ProducerBroken(f"{self.unit}: the row that says where it stands doesn't fit its record batch")
        return 1

    def new_batch(self) -> Any:
        """An empty record batch builder."""
        return self._producer.create_batch()

    async def send_batches(self, batches: Sequence[tuple[Any, str, int]]) -> None:
        """Send these (builder, topic, partition) and wait for every ack."""
        results = await asyncio.gather(*(self._send(*batch) for batch in batches), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors:
            raise next((error for error in errors if isinstance(error, OwnershipLost)), errors[0])

    def require_lease(self) -> None:
        """OwnershipLost when the group may have given this unit to somebody else by now."""
        if not self._holds_lease():
            raise OwnershipLost(f"{self.unit}: no heartbeat for a session timeout, another owner may be at work")

    async def _send(self, builder: Any, topic: str, partition: int) -> int:
        """One record batch, acknowledged; its first offset."""
        builder.close()
        self.require_lease()
        where, waits = (topic, partition), self._waits
        if not waits:
            self.waiting_since = time.monotonic()
        waits[where] = waits.get(where, 0) + 1
        try:
            with self._told(f"{topic}[{partition}]"):
                acked = await self._producer.send_batch(builder, topic, partition=partition)
                metadata = await acked
        finally:
            waits[where] -= 1
            if not waits[where]:
                del waits[where]
                if not waits:
                    self.waiting_since = None
        if metadata.offset < 0:
            raise ProducerBroken(f"{self.unit}: {topic}[{partition}] acknowledged without an offset")
        if metadata.timestamp_type == LOG_APPEND_TIME:
            self.clock_ahead_s = time.time() - metadata.timestamp / 1000
        return int(metadata.offset)

    @contextlib.contextmanager
    def _told(self, place: str) -> Iterator[None]:
        """aiokafka's errors as ours: OwnershipLost when fenced, ProducerBroken otherwise."""
        try:
            yield
        except InvalidProducerIdMapping as error:
            raise OwnershipLost(f"{self.unit}: its producer id has expired at {place}") from error
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise OwnershipLost(f"{self.unit}: another owner writes to {place}") from error
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            raise SizeRefused(f"{self.unit}: {place}: {type(error).__name__}: {error}") from error
        except InvalidTimestampError as error:
            raise TimeRefused(f"{self.unit}: {self._time_refused(place)}") from error
        except (KafkaError, IllegalOperation, OutOfOrderSequenceNumber, ProducerClosed, AssertionError) as error:
            raise ProducerBroken(f"{self.unit}: {place}: {type(error).__name__}: {error}") from error

    def _time_refused(self, place: str) -> str:
        clock = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if self.clock_ahead_s is not None:
            clock += f", {self.clock_ahead_s:+.0f} s from the broker's"
        return (
            f"{place} refuses the time of a record (INVALID_TIMESTAMP). This worker's clock says {clock}. Set it "
            "right; if it is, raise the topic's message.timestamp.after.max.ms and message.timestamp.before.max.ms. "
            "`hardparts topics apply` has the broker stamp what goes to changelogs, the error and the audit topic"
        )

    async def abandon(self, timeout_s: float = 3.0) -> None:
        """Stop sending and close the sockets now; what was in flight may or may not have been written."""
        await abandoned(self._producer, timeout_s)
