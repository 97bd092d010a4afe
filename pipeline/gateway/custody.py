"""Custody: the one durable log of the gateway is the reliable producer's spill; what is in it will be in Kafka."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

from pipeline.closing import ended
from pipeline.core.errors import Misconfigured
from pipeline.core.routing import PartitionerName
from pipeline.gateway.door import Taken
from pipeline.gateway.measured import MeasuredLink
from pipeline.gateway.metrics import GatewayMetrics
from pipeline.gateway.patience import Patience
from pipeline.kafka.memory import ClusterMemory
from pipeline.producer import Delivery, Limits, Load, ProducerError, ReliableProducer, SpillUnusable, Undelivered
from pipeline.producer.arguments import size_of
from pipeline.producer.link import KafkaLink, Link
from pipeline.producer.message import Headers
from pipeline.runtime.admin import client_options
from pipeline.runtime.alerts import Alerts
from pipeline.runtime.settings import AUTO, Settings

log = logging.getLogger("hardparts.gateway")

ACCEPT_TIMEOUT_S = 10.0
TROUBLE_GRACE_S = 1.0
"""When the disk begins to fail, who waits for it is told after this; Kafka's own answer may come before."""
DRAIN_S = 2.0
LINGER_S = 0.02
"""Nobody waits for Kafka here: fewer, larger requests to it leave the processor to the door."""
COUNTS_EVERY_S = 60.0
WATCH_EVERY_S = 1.0


class NotTaken(ProducerError):
    """Nothing can be answered for now. What was asked for may have been taken in part: it is to be sent again."""

    name = "no_custody"


class CustodyFull(NotTaken):
    """The cap is reached: nothing was taken."""

    name = "custody_full"


class Custody:
    """Takes events, and answers for them from then on.

    topics: those whose partition counts are asked for, so that a key's partition is known early. partitioners: topic →
    the declared one. link: instead of aiokafka. Raises SpillUnusable and SpillInUse at the start, never because a
    broker is unavailable.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Sequence[str],
        metrics: GatewayMetrics,
        alerts: Alerts,
        *,
        partitioners: Mapping[str, PartitionerName] = MappingProxyType({}),
        link: Link | None = None,
    ) -> None:
        self._settings, self._topics, self._metrics, self._alerts = settings, list(topics), metrics, alerts
        self.limits = Limits(disk_messages=settings.custody_messages_max, disk_bytes=settings.custody_bytes_max)
        shared = {"cluster_memory": ClusterMemory()}
        self.producer = ReliableProducer(
            shared,
            spill=settings.spill,
            durable=True,
            limits=self.limits,
            partitioners=partitioners,
            linger_s=LINGER_S,
            link=MeasuredLink(link or KafkaLink(client_options(settings) | shared), metrics),
            on_trouble=self._trouble,
            on_undelivered=self._undelivered,
        )
        self._patience = Patience(ACCEPT_TIMEOUT_S)
        self._unflushed_messages = self._unflushed_bytes = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Test and open the spill, and go on with what an earlier process left there."""
        make_spill(self._settings)
        await self.producer.start()
        left = self.producer.load().messages
        if left:
            log.warning("%d messages of an earlier process are in custody and go on to Kafka", left)
        loop = asyncio.get_running_loop()
        rounds = self._count_partitions(), self._patience.watch(), self._watch_cluster()
        self._tasks = [loop.create_task(round_) for round_ in rounds]

    async def stop(self) -> int:
        """Leave what Kafka doesn't take now in the spill; how many messages."""
        await ended(*self._tasks)
        return await self.producer.stop(DRAIN_S)

    def load(self) -> Load:
        """What Kafka hasn't confirmed."""
        return self.producer.load()

    def refusal(self) -> NotTaken | SpillUnusable | None:
        """Why nothing can be taken now, if so."""
        trouble = self.producer.trouble()
        return trouble if trouble is not None else self._full(1, 0)

    async def take(self, topic: str, events: Sequence[Taken], headers: Headers) -> None:
        """Return once all of them are on the disk: all or none are taken. Raises NotTaken, SpillUnusable, Stopped."""
        size = sum(size_of(event.key, event.value, headers) for event in events)
        trouble = self.producer.trouble()
        if trouble is not None:
            raise trouble
        if (full := self._full(len(events), size)) is not None:
            raise full
        deliveries = [
            self.producer.produce(topic, None, event.value, key=event.key, headers=headers) for event in events
        ]
        self._unflushed_messages += len(events)
        self._unflushed_bytes += size
        try:
            await self._kept(deliveries)
        finally:
            self._unflushed_messages -= len(events)
            self._unflushed_bytes -= size

    async def _kept(self, deliveries: Sequence[Delivery]) -> None:
        try:
            with self._patience.wait():
                for delivery in deliveries:
                    await delivery.accepted()
        except TimeoutError:
            trouble = self.producer.trouble()
            raise trouble or NotTaken(
                f"the disk didn't answer within {ACCEPT_TIMEOUT_S:.0f} s: send it again"
            ) from None

    def _full(self, messages: int, size: int) -> CustodyFull | None:
        load, limits = self.producer.load(), self.limits
        if load.messages + messages > limits.disk_messages or load.disk_bytes + size > limits.disk_bytes:
            most = f"{limits.disk_messages} messages, {limits.disk_bytes} bytes"
            return CustodyFull(f"{load.messages} messages wait for Kafka, {load.disk_bytes} bytes: at most {most}")
        if (
            self._unflushed_messages + messages > limits.memory_messages
            or self._unflushed_bytes + size > limits.memory_bytes
        ):
            return CustodyFull(f"{self._unflushed_messages} messages wait for the disk")
        return None

    def _trouble(self, error: SpillUnusable | None) -> None:
        if error is None:
            self._alerts.closed("custody")
            return
        self._alerts.opened("custody", path=str(error.path), errno=error.errno, message=str(error))
        self._patience.hurry(TROUBLE_GRACE_S)

    def _undelivered(self, refused: Undelivered) -> None:
        self._metrics.undelivered.inc()
        self._alerts.opened("undelivered", id=refused.id, topic=refused.topic, error=refused.error)

    async def _watch_cluster(self) -> None:
        """Events stay in custody while another cluster answers: what was accepted belongs to ours."""
        while True:
            self._alerts.other_cluster(self.producer.other_cluster())
            await asyncio.sleep(WATCH_EVERY_S)

    async def _count_partitions(self) -> None:
        while True:
            for topic in self._topics:
                with suppress(Exception):  # the broker is away, or the topic isn't there: the next message tells
                    await self.producer.request_metadata(topic)
            await asyncio.sleep(COUNTS_EVERY_S)


def make_spill(settings: Settings) -> None:
    """The default spill directory is made; one that is named must be there, it may be a disk that isn't mounted."""
    if settings.spill_dir is not None:
        return
    if settings.instance == AUTO:  # the custody of a slot that nobody takes again would never get to Kafka
        raise Misconfigured(
            f"HARDPARTS_INSTANCE={AUTO} is for workers: give the gateway a name that stays, or set HARDPARTS_SPILL_DIR"
        )
    try:
        settings.spill.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = error.filename or settings.spill
        raise Misconfigured(f"spill directory {where} can't be made: {error.strerror} (errno {error.errno})") from error
