"""What is on the topics and in the database after the day: read by plain clients, not by the engine."""

import asyncio
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.closing import stopped
from pipeline.core.errors import HardpartsError
from pipeline.demo.count import Came
from pipeline.demo.names import INPUTS, OUTPUTS, Names

SILENT_S = 20.0

Offsets = dict[tuple[str, int], int]


class Unreadable(HardpartsError):
    """A topic could not be read to its end."""


@dataclass
class Found:
    """Everything that lies on the topics and in the database."""

    inputs: list[Came]
    outputs: dict[str, list[Came]]
    errors: list[Came]
    audits: list[Came]
    changelog: list[Came]
    comment_counts: dict[str, int]
    messages: dict[str, tuple[str, str, str]]


async def read_back(client: Mapping[str, Any], names: Names, partitions: int, begins: Offsets, database: Path) -> Found:
    """Read all of it, from where the topics stood when the demo began."""
    wanted = [*INPUTS, *OUTPUTS, names.errors, names.audit, names.changelog]
    topics = await read_topics(client, wanted, partitions, begins)
    counts, messages = await asyncio.to_thread(_read_database, database)
    return Found(
        inputs=[record for topic in INPUTS for record in topics[topic]],
        outputs={topic: topics[topic] for topic in OUTPUTS},
        errors=topics[names.errors],
        audits=topics[names.audit],
        changelog=topics[names.changelog],
        comment_counts=counts,
        messages=messages,
    )


async def read_topics(
    client: Mapping[str, Any], topics: Iterable[str], partitions: int, begins: Offsets
) -> dict[str, list[Came]]:
    """The records of each topic up to its end now, by partition and offset; Unreadable."""
    consumer = AIOKafkaConsumer(**client, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100)
    found: dict[str, list[Came]] = {topic: [] for topic in topics}
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for topic in found for number in range(partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        for place in places:
            consumer.seek(place, begins.get((place.topic, place.partition), 0))
        while behind := [place for place in places if await consumer.position(place) < ends[place]]:
            got = await asyncio.wait_for(_some(consumer, behind), SILENT_S)
            for place, records in got.items():
                found[place.topic] += [_came(record) for record in records if record.offset < ends[place]]
    except TimeoutError:
        raise Unreadable(f"the broker sends nothing more of {', '.join(sorted({p.topic for p in behind}))}") from None
    finally:
        await stopped(consumer.stop())
    for records in found.values():
        records.sort(key=lambda record: (record.partition, record.offset))
    return found


async def _some(consumer: Any, places: list[Any]) -> dict[Any, list[Any]]:
    while True:
        got: dict[Any, list[Any]] = await consumer.getmany(*places, timeout_ms=500)
        if got:
            return got


def _came(record: Any) -> Came:
    return Came(record.topic, record.partition, record.offset, record.key, record.value, tuple(record.headers))


def _read_database(file: Path) -> tuple[dict[str, int], dict[str, tuple[str, str, str]]]:
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5)) as database:
            counts = dict(database.execute("SELECT user_id, count FROM comment_counts"))
            rows = database.execute("SELECT msg_id, user_id, to_user_id, msg FROM messages")
            return counts, {msg_id: (user, to, msg) for msg_id, user, to, msg in rows}
    except sqlite3.Error as error:
        raise Unreadable(f"the read model {file}: {error}") from error
