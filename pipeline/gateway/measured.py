"""The way to Kafka, with a clock: how long each message was in custody, and which requests failed."""

import time
from collections.abc import Sequence

from pipeline.gateway.metrics import GatewayMetrics
from pipeline.producer.codes import name_of
from pipeline.producer.errors import ProducerError
from pipeline.producer.link import Link, Sent
from pipeline.producer.message import Letter


class MeasuredLink:
    """Another link, measured. Messages that an earlier process took count with the time of their first arrival."""

    def __init__(self, link: Link, metrics: GatewayMetrics) -> None:
        self._link, self._metrics = link, metrics

    async def partitions(self, topic: str) -> int:
        """As Link says."""
        return await self._link.partitions(topic)

    async def send(self, topic: str, partition: int, messages: Sequence[Letter], at_ms: int | None = None) -> Sent:
        """As Link says."""
        try:
            sent = await self._link.send(topic, partition, messages, at_ms)
        except Exception as error:
            name = error.name if isinstance(error, ProducerError) else name_of(error).lower()
            self._metrics.send_errors.labels(name).inc()
            raise
        now_ms, observe = time.time() * 1000, self._metrics.kafka.observe
        for message in messages[: sent.messages]:
            observe(max(now_ms - message.timestamp_ms, 0.0) / 1000)
        return sent

    async def refresh(self) -> None:
        """As Link says."""
        await self._link.refresh()

    async def close(self) -> None:
        """As Link says."""
        await self._link.close()
