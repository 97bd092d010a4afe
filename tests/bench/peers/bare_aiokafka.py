"""The same work in a bare aiokafka loop: what is left without Faust, units, ownership, retries and recovery.

It decodes by the contract, keeps a mark (with a hash of type and data) and the count of each event in
RocksDB and in a changelog topic, derives outputs, awaits every ack in the order outputs, changelog, RocksDB, commit.
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch

from .contract import decode
from .settings import PeerSettings, derived_msg_id

BATCH_RECORDS_MAX = int(os.environ.get("HARDPARTS_BATCH_RECORDS_MAX", "1000"))  # as our worker is told
BATCH_BYTES_MAX = 900_000  # below the broker's limit of about 1 MiB
COMMIT_INTERVAL_S = 1.0
BLOCK_CACHE_BYTES = 32 * 1024 * 1024
OFFSET_KEY = b"offset"

Row = tuple[bytes, bytes]


@dataclass(slots=True)
class Decision:
    """What one batch of records amounts to: outputs as (key, value), and the rows that record them."""

    outputs: list[Row] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


class Partition:
    """State and produced batches of one partition."""

    def __init__(self, number: int, settings: PeerSettings, producer: Any) -> None:
        """Open an empty RocksDB for partition `number`."""
        self.number, self.settings, self.producer = number, settings, producer
        settings.data_directory.mkdir(parents=True, exist_ok=True)
        self.database = Rdict(str(settings.data_directory / str(number)), options=_options())

    async def process(self, records: list[Any]) -> None:
        """Decide, publish, record, apply: each acknowledged before the next."""
        decision = self.decide(records)
        if decision.outputs:
            await self.send(self.settings.output_topic, decision.outputs)
            changelog_offset = await self.send(f"{self.settings.app_id}-changelog", decision.rows)
            self.apply(decision.rows, changelog_offset)

    def decide(self, records: list[Any]) -> Decision:
        """Judge a batch in order, reading its marks and counts with one multi-get."""
        events = [decode(record.key, record.value) for record in records]
        mark_keys = [
            b"m/%b/%b" % (record.key, event["msg_id"].lower().encode())
            for record, event in zip(records, events, strict=True)
        ]
        count_keys = list({b"c/" + record.key: None for record in records})
        found: list[Any] = self.database.get(mark_keys + count_keys)  # type: ignore[assignment] # its stub forgets lists
        stored = dict(zip(mark_keys + count_keys, found, strict=True))
        decision = Decision()
        for record, event, mark_key in zip(records, events, mark_keys, strict=True):
            content = orjson.dumps([event["type"], event["data"]], option=orjson.OPT_SORT_KEYS)
            digest = blake2b(content, digest_size=16).digest()
            mark = stored[mark_key]
            if mark is not None:
                if mark[8:] != digest:
                    raise ValueError("msg_id used twice for different events")
                continue
            count_key = b"c/" + record.key
            count = int(stored[count_key] or b"0") + 1
            mark = record.timestamp.to_bytes(8, "big") + digest
            stored[mark_key], stored[count_key] = mark, b"%d" % count
            decision.rows += [(mark_key, mark), (count_key, b"%d" % count)]
            data = {"user_id": event["data"]["user_id"], "count": count}
            output = {"msg_id": derived_msg_id(event["msg_id"]), "type": "comment.counted", "data": data}
            decision.outputs.append((record.key, orjson.dumps(output)))
        return decision

    async def send(self, topic: str, rows: list[Row]) -> int:
        """Append rows to this partition of a topic, in as few record batches as they fit; return the last offset."""
        acks, batch = [], self.producer.create_batch()
        for key, value in rows:
            if batch.append(key=key, value=value, timestamp=None) is None:
                acks.append(await self.producer.send_batch(batch, topic, partition=self.number))
                batch = self.producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        last_count: int = batch.record_count()
        acks.append(await self.producer.send_batch(batch, topic, partition=self.number))
        written = await asyncio.gather(*acks)
        return int(written[-1].offset) + last_count - 1

    def apply(self, rows: list[Row], changelog_offset: int) -> None:
        """Put rows and the changelog offset into RocksDB in one write."""
        writes = WriteBatch(raw_mode=True)
        for key, value in rows:
            writes.put(key, value)
        writes.put(OFFSET_KEY, b"%d" % changelog_offset)
        self.database.write(writes)


def _options() -> Options:
    table = BlockBasedOptions()
    table.set_block_cache(Cache(BLOCK_CACHE_BYTES))
    table.set_bloom_filter(10, block_based=False)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    return options


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
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES_MAX
    )
    await producer.start()
    await consumer.start()
    partitions = {number: Partition(number, settings, producer) for number in range(settings.partitions)}
    loop = asyncio.create_task(consume(consumer, settings, partitions))
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait([loop, stopping], return_when=asyncio.FIRST_COMPLETED)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    await consumer.stop()
    await producer.stop()
    if not loop.cancelled():
        loop.result()


async def consume(consumer: Any, settings: PeerSettings, partitions: dict[int, Partition]) -> None:
    """A loop per partition, and one that commits what they have finished."""
    finished: dict[TopicPartition, int] = {}

    async def process(number: int, partition: Partition) -> None:
        source = TopicPartition(settings.input_topic, number)
        while True:
            fetched = await consumer.getmany(source, timeout_ms=1000, max_records=BATCH_RECORDS_MAX)
            for records in fetched.values():
                await partition.process(records)
                finished[source] = records[-1].offset + 1

    async def commit() -> None:
        # Not after each batch: Kafka 4 gathers commits for 5 ms and aiokafka sends one at a time, so partitions queue.
        while True:
            await asyncio.sleep(COMMIT_INTERVAL_S)
            if finished:
                await consumer.commit(dict(finished))

    async with asyncio.TaskGroup() as group:
        group.create_task(commit())
        for number, partition in partitions.items():
            group.create_task(process(number, partition))


if __name__ == "__main__":
    uvloop.run(main())
