"""The relay: unsent rows by id, to the producer, and marked when Kafka has confirmed them; again and again.

The table is the custody. What is in memory here was read from it and is read again after a crash, so a row may be sent
twice and is never left out.
"""

import asyncio
import logging
import random
from contextlib import suppress

from pipeline.core.backoff import Backoff
from pipeline.kafka.memory import OtherCluster
from pipeline.outbox.errors import DatabaseAway
from pipeline.outbox.metrics import OutboxMetrics
from pipeline.outbox.rows import Row, RowBroken, record_of
from pipeline.outbox.table import Table
from pipeline.outbox.verdict import Verdict, reason_of, verdict_of
from pipeline.outbox.window import Bounds, Queue, Window
from pipeline.producer import Delivery, ProducerError, ReliableProducer
from pipeline.runtime.alerts import Alerts

log = logging.getLogger("hardparts.outbox")

POLL_S = 0.1
STANDBY_S = 1.0
SAMPLE_S = 5.0
STOP_WITHIN_S = 5.0
DELETED_MAX = 2_000
UNCONFIRMED_MAX_S = 15.0
RECONNECT = Backoff(0.2, 10.0)
HOLD = Backoff(1.0, 30.0)


class Relay:
    """Moves the rows of one table: `await relay.run()`, until `stop`.

    keep_s: rows are deleted so many seconds after they were sent; None: never. Only one relay of a table is active;
    others stand by. Raises Misconfigured when the table isn't what it must be; a database or a broker that is away is
    waited for.
    """

    def __init__(
        self,
        table: Table,
        producer: ReliableProducer,
        alerts: Alerts,
        metrics: OutboxMetrics,
        *,
        keep_s: float | None = None,
        bounds: Bounds | None = None,
        hold: Backoff = HOLD,
    ) -> None:
        self._table, self._producer, self._alerts, self._metrics = table, producer, alerts, metrics
        self._keep_s = keep_s
        self._window = Window(bounds or Bounds(), hold)
        self._sent: list[int] = []
        self._failed: dict[int, str] = {}
        self._chunks: set[asyncio.Task[None]] = set()
        self._some, self._stopping = asyncio.Event(), asyncio.Event()
        self._attempts = 0
        self._sampled_at = self._deleted_at = float("-inf")
        self._fault: BaseException | None = None
        self.active = False
        self.trouble: str | None = "not connected to the database yet"

    def stop(self) -> None:
        """Read nothing more; `run` returns when what is on its way is confirmed and marked, or after a few seconds."""
        self._stopping.set()
        self._some.set()

    def other_cluster(self) -> OtherCluster | None:
        """Set while the brokers' addresses lead to another cluster; rows wait in the table."""
        return self._producer.other_cluster()

    def held(self) -> dict[str, str]:
        """Topic → why its rows wait."""
        return self._window.held()

    async def run(self) -> None:
        """Until `stop`."""
        try:
            while not self._stopping.is_set():
                try:
                    if await self._table.hold():
                        self._go_on()
                        await self._round()
                    else:
                        self._stand_by()
                        await self._pause(STANDBY_S)
                except DatabaseAway as error:
                    await self._database_failed(error)
            await self._finish()
            if self._fault is not None:
                raise self._fault
        finally:
            for chunk in self._chunks:
                chunk.cancel()
            self._table.close()

    async def _round(self) -> None:
        await self._mark()
        await self._delete_old()
        found = await self._read()
        self._send()
        await self._sample()
        if not found:
            await self._pause(POLL_S)

    async def _mark(self) -> None:
        """What is settled: in the table first, then out of memory."""
        sent = list(self._sent)
        if sent:
            await self._table.mark_sent(sent)
            del self._sent[: len(sent)]
            self._window.forget(sent)
            self._metrics.rows.labels("sent").inc(len(sent))
        for id_, reason in list(self._failed.items()):
            await self._fail(id_, reason)
            del self._failed[id_]
            self._window.forget([id_])

    async def _fail(self, id_: int, reason: str) -> None:
        await self._table.mark_failed(id_, reason)
        log.error("row %d can't be sent, later rows go on: %s", id_, reason)
        self._metrics.rows.labels("failed").inc()
        self._sampled_at = float("-inf")

    async def _delete_old(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._keep_s is not None and now - self._deleted_at >= SAMPLE_S:
            deleted = await self._table.delete_sent(self._keep_s, DELETED_MAX)
            if deleted < DELETED_MAX:  # otherwise there are more: the next round goes on
                self._deleted_at = now

    async def _read(self) -> bool:
        """Whether there were rows to read. Always the first unsent ones: an id that is behind may be committed late."""
        window, room = self._window, self._window.room
        if not room:
            return False
        closed = window.closed(asyncio.get_running_loop().time())
        waiting = await self._table.unsent(window.taken + room, closed)
        chosen, too_large = window.choose(waiting)
        for row in too_large:
            await self._fail(row.id, f"too_large: {row.bytes} bytes")
        rows = await self._table.rows([row.id for row in chosen[:room]])
        window.add(rows, {row.id: row.bytes for row in chosen})
        return bool(rows)

    def _send(self) -> None:
        loop = asyncio.get_running_loop()
        for queue in self._window.chunks(loop.time()):
            chunk = loop.create_task(self._deliver(queue))
            self._chunks.add(chunk)
            chunk.add_done_callback(self._ended)

    def _ended(self, chunk: asyncio.Task[None]) -> None:
        """A failure of our own ends the process: its rows are in the table."""
        self._chunks.discard(chunk)
        if not chunk.cancelled() and (error := chunk.exception()) is not None:
            self._fault = self._fault or error
            self.stop()

    async def _deliver(self, queue: Queue) -> None:
        """One chunk, to the end of each of its rows."""
        began = asyncio.get_running_loop().time()
        waits: str | None = None
        deliveries: list[tuple[int, Delivery | Exception]] = []
        full: Exception | None = None
        for row in queue.sending:  # without a pause: the producer makes one request a partition of them
            delivery = full or self._produce(row)
            if isinstance(delivery, Exception) and verdict_of(delivery) is Verdict.WAITS:
                full = delivery  # a smaller row behind it may not pass it
            deliveries.append((row.id, delivery))
        again, sent = [], 0
        for id_, delivery_ in deliveries:
            failure = await _failure_of(delivery_)
            if failure is None:
                self._sent.append(id_)
                sent += 1
            elif verdict_of(failure) is Verdict.FAILED:
                self._failed[id_] = reason_of(failure)
            else:
                again.append(id_)
                waits = waits or reason_of(failure)
        queue.sending = []
        self._settle(queue, again, waits, began, sent)
        self._some.set()

    def _produce(self, row: Row) -> Delivery | Exception:
        try:
            record = record_of(row)
            return self._producer.produce(row.topic, None, record.value, key=record.key, headers=record.headers)
        except (ProducerError, RowBroken) as error:
            return error

    def _settle(self, queue: Queue, again: list[int], waits: str | None, began: float, sent: int) -> None:
        now, alert = asyncio.get_running_loop().time(), f"outbox:topic:{queue.topic}"
        self._metrics.dependency.labels("broker").observe(now - began)
        if waits is not None:
            self._window.hold(queue, now, waits, again)
            self._alerts.opened(alert, reason=waits, remedy="its rows wait in the table; see `hardparts outbox status`")
        elif sent:
            self._window.taken_by_kafka(queue)
            self._alerts.closed(alert)

    async def _sample(self) -> None:
        """The gauges, and alerts that follow from them."""
        now, alerts = asyncio.get_running_loop().time(), self._alerts
        since = self._window.sending_since()
        if since is not None and now - since > UNCONFIRMED_MAX_S:
            alerts.opened("outbox:broker", waited_s=round(now - since, 1))
        else:
            alerts.closed("outbox:broker")
        alerts.other_cluster(self._producer.other_cluster())
        if now - self._sampled_at < SAMPLE_S:
            return
        backlog = await self._table.backlog()
        self._sampled_at = now
        self._metrics.unsent.set(backlog.unsent)
        self._metrics.oldest.set(backlog.oldest_s)
        self._metrics.failed.set(backlog.failed)
        if backlog.failed:
            alerts.opened("outbox:failed", rows=backlog.failed, remedy="`hardparts outbox status`, then `retry`")
        else:
            alerts.closed("outbox:failed")

    def _go_on(self) -> None:
        self._attempts, self.trouble = 0, None
        self._alerts.closed("outbox:database")
        if not self.active:
            log.info("active: this relay has the table")
            self.active = True
            self._metrics.active.set(1)
            self._sampled_at = float("-inf")

    def _stand_by(self) -> None:
        """Another relay has the table: what is in memory is its business now."""
        self._attempts, self.trouble = 0, None
        self._alerts.closed("outbox:database")
        if self.active or self._window.taken:
            log.warning("another relay has taken the table: standing by")
        self.active = False
        self._metrics.stands_by()
        for name in list(self._alerts.open):
            self._alerts.closed(name)
        for chunk in self._chunks:
            chunk.cancel()
        self._chunks.clear()
        self._window = self._window.emptied()
        self._sent.clear()
        self._failed.clear()

    async def _database_failed(self, error: DatabaseAway) -> None:
        """What is confirmed stays here until it can be marked."""
        self._attempts += 1
        self.trouble = str(error)
        if self._attempts == 1:
            log.warning("database: %s; trying again", error)
        elif self._attempts == 3:
            self._alerts.opened("outbox:database", reason=str(error))
        await self._pause(RECONNECT.delay_s(self._attempts, random.uniform), early=False)

    async def _pause(self, delay_s: float, *, early: bool = True) -> None:
        """So long, or until something is settled (early), or `stop`."""
        event = self._some if early else self._stopping
        with suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), delay_s)
        self._some.clear()

    async def _finish(self) -> None:
        """Confirmations that come soon are marked; the rest is sent again by the next relay."""
        if self._chunks:
            await asyncio.wait(self._chunks, timeout=STOP_WITHIN_S)
        if self.active and self.trouble is None:
            with suppress(DatabaseAway):
                await self._mark()


async def _failure_of(delivery: Delivery | Exception) -> Exception | None:
    if isinstance(delivery, Exception):
        return delivery
    try:
        await delivery
    except ProducerError as error:
        return error
    return None
