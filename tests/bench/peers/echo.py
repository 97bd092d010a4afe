"""The least that can stand between two topics: consume, produce the same bytes, await the acks."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from .settings import PeerSettings


async def echo(consumer: Any, producer: Any, output_topic: str) -> None:
    """Copy records for ever, batch by batch, to the same partition number."""
    while True:
        fetched = await consumer.getmany(timeout_ms=1000)
        acks = [
            await producer.send(output_topic, key=record.key, value=record.value, partition=source.partition)
            for source, records in fetched.items()
            for record in records
        ]
        await asyncio.gather(*acks)


async def main() -> None:
    """Run until SIGTERM."""
    settings = PeerSettings.from_environment()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    consumer = AIOKafkaConsumer(
        settings.input_topic,
        bootstrap_servers=settings.bootstrap,
        group_id=settings.app_id,
        auto_offset_reset="earliest",
        auto_commit_interval_ms=1000,
    )
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    await consumer.start()
    copying = asyncio.create_task(echo(consumer, producer, settings.output_topic))
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait([copying, stopping], return_when=asyncio.FIRST_COMPLETED)
    copying.cancel()
    await asyncio.gather(copying, return_exceptions=True)
    await consumer.stop()
    await producer.stop()
    if not copying.cancelled():
        copying.result()


if __name__ == "__main__":
    uvloop.run(main())
