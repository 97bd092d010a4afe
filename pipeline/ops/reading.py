"""Reading a topic from its beginning to where it ends now, without a group."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline.closing import stopped
from pipeline.core.errors import HardpartsError
from pipeline.kafka.memory import ClusterMemory
from pipeline.runtime.admin import REQUEST_TIMEOUT_S, away, client_options, connect, denied
from pipeline.runtime.security import DENIED
from pipeline.runtime.settings import Settings

FETCH_BYTES = 4 << 20
STALLED_AFTER_S = 20.0
STOP_WITHIN_S = 2.0


class TopicMissing(HardpartsError):
    """The topic isn't there; the message names the remedy."""


async def partitions_of(settings: Settings, topic: str) -> int:
    """How many partitions `topic` has; TopicMissing, BrokerAway."""
    async with connect(settings) as admin:
        found = (await admin.topics([topic])).get(topic)
    if found is None:
        raise TopicMissing(f"topic {topic} doesn't exist: create it with `hardparts topics apply`, or check the name")
    return found.partitions


async def read_to_end(
    settings: Settings,
    topic: str,
    partitions: Iterable[int] | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    first: int = 0,
    committed_only: bool = True,
) -> AsyncIterator[Any]:
    """Records of `topic` up to the ends that its partitions have when this starts, in order within each partition.

    on_progress: called with (offsets passed, offsets in all). first: the offset to begin at, in each.
    committed_only: leave out what transactions wrote that are open or were aborted. Raises TopicMissing; BrokerAway
    when nothing arrives for STALLED_AFTER_S.
    """
    count = await partitions_of(settings, topic)
    wanted = [TopicPartition(topic, number) for number in (range(count) if partitions is None else partitions)]
    address = ",".join(settings.brokers)
    async with reader(settings, committed_only) as consumer:
        consumer.assign(wanted)
        ends = await consumer.end_offsets(wanted)
        begins = {tp: max(offset, first) for tp, offset in (await consumer.beginning_offsets(wanted)).items()}
        open_ = {tp for tp in wanted if begins[tp] < ends[tp]}
        for tp in open_:
            consumer.seek(tp, begins[tp])
        total, news_at = sum(max(ends[tp] - begins[tp], 0) for tp in wanted), time.monotonic()
        positions = {tp: begins[tp] for tp in open_}
        while open_:
            fetched = await consumer.getmany(*open_, timeout_ms=500)
            for tp, records in fetched.items():
                for record in records:
                    if record.offset < ends[tp]:
                        yield record
            moved = {tp: await consumer.position(tp) for tp in open_}
            if moved != {tp: positions[tp] for tp in open_}:
                news_at = time.monotonic()
            elif time.monotonic() - news_at > STALLED_AFTER_S:
                raise away(address, f"nothing arrived for {STALLED_AFTER_S:.0f} s")
            positions.update(moved)
            open_ = {tp for tp in open_ if positions[tp] < ends[tp]}
            on_progress(sum(min(positions[tp], ends[tp]) - begins[tp] for tp in positions), total)


@asynccontextmanager
async def reader(
    settings: Settings, committed_only: bool = True, cluster_memory: ClusterMemory | None = None
) -> AsyncIterator[AIOKafkaConsumer]:
    """A started consumer without a group; BrokerAway for what goes wrong with the broker while it is used."""
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        cluster_memory=cluster_memory,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=100,
        isolation_level="read_committed" if committed_only else "read_uncommitted",
        request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
    )
    try:
        await asyncio.wait_for(consumer.start(), REQUEST_TIMEOUT_S)
        yield consumer
    except DENIED as error:
        raise denied(",".join(settings.brokers), error) from error
    except (KafkaError, TimeoutError) as error:
        raise away(",".join(settings.brokers), str(error) or type(error).__name__) from error
    finally:
        await stopped(consumer.stop(), STOP_WITHIN_S)
