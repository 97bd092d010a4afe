"""Before the first record: do the last records of each source stand where the declared partitioner puts them?"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.closing import stopped
from pipeline.core.agent import Definition
from pipeline.core.errors import Misconfigured
from pipeline.core.sample import Doubt, doubt
from pipeline.core.strays import may_have_strays
from pipeline.runtime.admin import Admin
from pipeline.runtime.readable import read_any_header_name

if TYPE_CHECKING:
    from pipeline.runtime.app import App

log = logging.getLogger("hardparts.partitioners")

RECORDS_MAX = 100
"""Of each partition, the last ones."""
KEYS_MAX = 20_000
"""In all: judging a key takes some microseconds, and nothing else runs meanwhile."""
FETCH_BYTES = 256 << 10
"""Of each partition, once: with large records there are fewer."""
WITHIN_S = 4.0
"""It takes some tenths of a second; this is for brokers in trouble, and the start goes on then."""
STOP_WITHIN_S = 1.0


class Looked(NamedTuple):
    """What the last records of the sources say.

    doubts: source → against its declaration; all sources as one entry when none could be read. unread: those of which
    this application has read nothing yet, as far as can be known.
    """

    doubts: dict[str, Doubt | None]
    unread: set[str]


async def require_partitioners(
    definitions: Iterable[Definition],
    counts: Mapping[str, int],
    options: Mapping[str, Any],
    uncommitted: Mapping[str, str],
) -> set[str]:
    """Misconfigured names each unread source whose records another partitioner than declared has put where they are.

    What is less certain is a warning. counts: topic → partitions. options: aiokafka's, bootstrap and security.
    uncommitted: as of `uncommitted_sources`. Returns the sources of which nothing has been read.
    """
    wrong = []
    looked = await look(definitions, counts, options, uncommitted)
    for found in looked.doubts.values():
        if found is not None and found.certain:
            wrong.append(f"{found.message}: {found.remedy}")
        elif found is not None:
            log.warning("%s: %s", found.message, found.remedy)
    if wrong:
        raise Misconfigured("; ".join(wrong))
    return looked.unread


async def uncommitted_sources(
    app: "App", definitions: Iterable[Definition], admin: Admin, counts: Mapping[str, int]
) -> dict[str, str]:
    """Source → changelog of its agent, of those in which the group has no offset.

    That alone says little: a broker forgets the offsets of a group that was away for long.
    """
    changelogs = {topic.name: app.changelog(definition) for definition in definitions for topic in definition.sources}
    wanted = [TopicPartition(name, number) for name in changelogs for number in range(counts.get(name, 0))]
    offsets = await admin.committed(app.settings.app_id, wanted) if wanted else {}
    read = {tp.topic for tp, offset in offsets.items() if offset > 0}
    return {name: changelog for name, changelog in changelogs.items() if name not in read}


async def look(
    definitions: Iterable[Definition],
    counts: Mapping[str, int],
    options: Mapping[str, Any],
    uncommitted: Mapping[str, str],
) -> Looked:
    """The last records of each source that has something to be checked."""
    sources = (topic for definition in definitions for topic in definition.sources)
    topics = [topic for topic in sources if may_have_strays(topic, counts.get(topic.name, 0))]
    if not topics:
        return Looked({}, set())
    changelogs = {changelog: counts[changelog] for changelog in uncommitted.values() if changelog in counts}
    try:
        seen, with_rows = await _last_keys({topic.name: counts[topic.name] for topic in topics}, changelogs, options)
    except Exception as error:  # noqa: BLE001 - whatever it is, the worker can do without, and names what stops it itself
        names = ", ".join(topic.name for topic in topics)
        said = f"partitioners of {names} not looked at ({str(error) or type(error).__name__})"
        remedy = "it is done at the next start; records in a wrong partition are still rejected"
        return Looked({names: Doubt(False, said, remedy)}, set())
    unread = {source for source, changelog in uncommitted.items() if changelog not in with_rows}
    found = {topic.name: doubt(topic, counts[topic.name], seen[topic.name], topic.name in unread) for topic in topics}
    return Looked(found, unread)


async def _last_keys(
    counts: Mapping[str, int], changelogs: Mapping[str, int], options: Mapping[str, Any]
) -> tuple[dict[str, set[tuple[bytes, int]]], set[str]]:
    """topic → key and partition of its last records, those of open transactions too, as far as they come in time; and
    which changelogs have ever had a row.
    """
    rows = [TopicPartition(name, number) for name, count in changelogs.items() for number in range(count)]
    seen: dict[str, set[tuple[bytes, int]]] = {name: set() for name in counts}
    wanted = [TopicPartition(name, number) for name, count in counts.items() for number in range(count)]
    most = max(1, min(RECORDS_MAX, KEYS_MAX // len(wanted)))
    deadline = time.monotonic() + WITHIN_S
    async with asyncio.timeout(WITHIN_S), _reader(options) as consumer:
        consumer.assign([*wanted, *rows])
        consumer.pause(*rows)
        begins, ends = await asyncio.gather(consumer.beginning_offsets(wanted), consumer.end_offsets([*wanted, *rows]))
        left = {tp for tp in wanted if begins[tp] < ends[tp]}
        consumer.pause(*(tp for tp in wanted if tp not in left))
        for tp in left:
            consumer.seek(tp, max(begins[tp], ends[tp] - most))
        while left and (left_s := deadline - time.monotonic()) > 0.1:
            fetched = await consumer.getmany(*left, timeout_ms=int(min(left_s / 2, 0.2) * 1000))
            for tp, records in fetched.items():
                seen[tp.topic].update((record.key, tp.partition) for record in records if record.key is not None)
            done = {tp for tp in left if fetched.get(tp) or await consumer.position(tp) >= ends[tp]}
            left -= done
            if done:
                consumer.pause(*done)
    if left:
        log.warning("partitioners: %d of %d partitions not read within %.0f s", len(left), len(wanted), WITHIN_S)
    return seen, {tp.topic for tp in rows if ends[tp] > 0}


@asynccontextmanager
async def _reader(options: Mapping[str, Any]) -> AsyncIterator[AIOKafkaConsumer]:
    read_any_header_name()
    consumer = AIOKafkaConsumer(
        **options, enable_auto_commit=False, max_partition_fetch_bytes=FETCH_BYTES, fetch_max_wait_ms=50
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await stopped(consumer.stop(), STOP_WITHIN_S)
