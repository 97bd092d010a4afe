"""The judge of a run: were the outputs right? A fast wrong peer is not a peer."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

FETCH_TIMEOUT_S = 20.0


class WrongOutputError(Exception):
    """A peer's outputs are not what its input demands."""


async def verify(
    bootstrap: str,
    begin: dict[TopicPartition, int],
    end: dict[TopicPartition, int],
    expected: Counter[int],
    *,
    whole: bool,
) -> int:
    """Read the outputs between two offset maps and return how many they are.

    Per user the counts must read 1, 2, 3, …, under the user's key, with version 5 msg_ids that are all different; if
    the run is `whole`, up to the number of comments that the user has. Raise WrongOutputError otherwise.
    """
    counts: Counter[int] = Counter()
    msg_ids: set[bytes] = set()
    total = 0
    async for record in _records(bootstrap, begin, end):
        event = orjson.loads(record.value)
        user_id, count = event["data"]["user_id"], event["data"]["count"]
        if record.key != str(user_id).encode() or event["type"] != "comment.counted":
            raise WrongOutputError(f"key {record.key!r} over {record.value!r}")
        if count != counts[user_id] + 1:
            raise WrongOutputError(f"user {user_id}: {count} after {counts[user_id]}")
        counts[user_id] = count
        msg_id = UUID(event["msg_id"])
        if msg_id.version != 5 or msg_id.bytes in msg_ids:
            raise WrongOutputError(f"msg_id {msg_id} is not of version 5, or was seen before")
        msg_ids.add(msg_id.bytes)
        total += 1
    if whole and counts != expected:
        raise WrongOutputError(f"{total} outputs for {expected.total()} comments")
    if any(count > expected[user_id] for user_id, count in counts.items()):
        raise WrongOutputError("a user has more outputs than comments")
    return total


async def _records(bootstrap: str, begin: dict[TopicPartition, int], end: dict[TopicPartition, int]) -> Any:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
    await consumer.start()
    try:
        wanted = [partition for partition in end if end[partition] > begin[partition]]
        consumer.assign(wanted)
        for partition in wanted:
            consumer.seek(partition, begin[partition])
        while [partition for partition in wanted if await consumer.position(partition) < end[partition]]:
            fetched = await consumer.getmany(timeout_ms=int(FETCH_TIMEOUT_S * 1000), max_records=50_000)
            if not fetched:
                raise WrongOutputError(f"the outputs cannot be read: nothing came for {FETCH_TIMEOUT_S:g} s")
            for partition, records in fetched.items():
                for record in records:
                    if record.offset < end[partition]:
                        yield record
    finally:
        await consumer.stop()
