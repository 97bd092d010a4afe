"""Cold rebuild of state: one worker, an empty disk, changelogs of several sizes; beside Faust's own recovery.

Both changelogs hold the same number of records, half of them one for each message and half running totals, in each
one's own format. What is timed is a process from its start until it says that its state is whole. Rates are over the
time beyond that of empty changelogs, so that imports, joining the group and Faust's fixed waits don't count for either.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from shutil import rmtree
from statistics import median
from typing import Any, NamedTuple
from uuid import UUID

from aiokafka import AIOKafkaProducer

from pipeline.core.idempotence import content_digest, mark_key, mark_value

from .kafka_topics import Partitioner, create_topic
from .peer import OUR_AGENT, OURS, STOCK, Preparation, Run, Site
from .workload import INPUT_TOPIC

USERS = 10_000
ROWS_A_BATCH = 2_000  # a worker's own batches: 1,000 events of two rows
IN_FLIGHT_MAX = 20
READY = re.compile(rb"ready partitions=|\brecovered\b")
READY_TIMEOUT_S = 900.0
POLL_S = 0.02
NOISE_S = 0.4


class Row(NamedTuple):
    """A changelog record of a partition; `table` is Faust's, ours has one changelog for all."""

    table: str
    partition: int
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Rebuild:
    """One start on an empty disk: seconds, and CPU seconds, from the start of the process until it was ready."""

    peer: str
    records: int
    seconds: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Rebuilds:
    """All of them; `sizes` in ascending order, the first is 0."""

    sizes: list[int]
    partitions: int
    rounds: int
    results: list[Rebuild]

    def median_of(self, peer: str, records: int, measure: str = "seconds") -> float | None:
        """Median over the rounds; None when it didn't run."""
        found = [getattr(one, measure) for one in self.results if (one.peer, one.records) == (peer, records)]
        return median(found) if found else None

    def rate_per_s(self, peer: str, records: int, measure: str = "seconds") -> float | None:
        """Records a second (or a CPU second) beyond what a start without any takes.

        None when it didn't run, and when they took so little more that two starts differ as much.
        """
        took, empty = self.median_of(peer, records, measure), self.median_of(peer, 0, measure)
        if took is None or empty is None or took - empty < NOISE_S:
            return None
        return records / (took - empty)

    def ratio(self, records: int) -> float | None:
        """How many times Faust's rate ours is."""
        ours, theirs = (self.rate_per_s(peer.name, records) for peer in (OURS, STOCK))
        return ours / theirs if ours and theirs else None

    def as_json(self) -> dict[str, Any]:
        """A JSON document with every run and the rates."""
        rates = {
            peer: {size: self.rate_per_s(peer, size) for size in self.sizes[1:]}
            for peer in dict.fromkeys(one.peer for one in self.results)
        }
        return {"benchmark": "recovery", **asdict(self), "records_per_s": rates}


async def recovery(
    site: Site, sizes: Sequence[int], *, faust_max: int, rounds: int, say: Callable[[str], None]
) -> Rebuilds:
    """Start both `rounds` times on an empty disk, in turns, for each size and for empty changelogs.

    faust_max: the largest size that stock Faust gets; a larger one would take it many minutes.
    """
    results: list[Rebuild] = []
    ascending = [0, *sorted(sizes)]
    for records in ascending:
        async with AsyncExitStack() as stack:
            prepared: list[Run] = []
            for peer in (OURS, STOCK) if records <= faust_max else (OURS,):
                run = await stack.enter_async_context(Preparation(peer, site))
                await create_topic(site.bootstrap, INPUT_TOPIC, site.partitions)  # ours has it already
                say(f"{peer.title}: {records:,} records into its changelogs")
                await _fill(site, run, records)
                prepared.append(run)
            for number in range(1, rounds + 1):
                for run in prepared:
                    seconds, cpu_s = await _start_cold(run)
                    say(
                        f"  round {number} of {rounds}: {run.peer.title}, {records:,} records: ready in {seconds:.2f} s"
                    )
                    results.append(Rebuild(run.peer.name, records, seconds, cpu_s))
    return Rebuilds(ascending, site.partitions, rounds, results)


def rows(events: int, partitions: int, seed: int = 1) -> Iterator[tuple[Row, Row]]:
    """What our agent writes for comments: a mark, and the user's count, both of the user's partition."""
    rng, partition_of = random.Random(seed), Partitioner(partitions)
    counts: dict[int, int] = {}
    for number in range(events):
        user = rng.randrange(USERS) + 1
        counts[user] = count = counts.get(user, 0) + 1
        msg_id = str(UUID(int=rng.getrandbits(128), version=4))
        digest = content_digest("comment.created", {"user_id": user, "msg": str(number)})
        mark = mark_value(1_700_000_000_000 + number, digest, ["comments"])
        partition = partition_of(user)
        yield (
            Row("marks", partition, mark_key(str(user), msg_id), mark),
            Row("counts", partition, b"comments\0%d" % user, b"%d" % count),
        )


def faust_rows(events: int, partitions: int, seed: int = 1) -> Iterator[tuple[Row, Row]]:
    """The same in the tables of the stock Faust application: `seen` and `totals`, keys and values as JSON."""
    for mark, count in rows(events, partitions, seed):
        user, msg_id = mark.key.decode().split("\0")[1:]
        yield (
            Row("seen", mark.partition, json.dumps(msg_id).encode(), b"true"),
            Row("totals", mark.partition, user.encode(), count.value),
        )


async def _fill(site: Site, run: Run, records: int) -> None:
    if run.peer.ours:
        topics = dict.fromkeys(("marks", "counts"), f"{run.app_id}-{OUR_AGENT}-changelog")
        source = rows(records // 2, site.partitions)
    else:
        topics = {table: f"{run.app_id}-{table}-changelog" for table in ("seen", "totals")}
        source = faust_rows(records // 2, site.partitions)
        for topic in topics.values():
            await create_topic(site.bootstrap, topic, site.partitions)
    async with AIOKafkaProducer(
        bootstrap_servers=site.bootstrap, acks="all", enable_idempotence=True, max_batch_size=900_000
    ) as producer:
        in_flight: list[asyncio.Future[Any]] = []
        while chunk := list(islice(source, ROWS_A_BATCH * site.partitions // 2)):
            batches: dict[tuple[str, int], Any] = {}
            for row in (row for event in chunk for row in event):
                where = topics[row.table], row.partition
                builder = batches.get(where) or batches.setdefault(where, producer.create_batch())
                if builder.append(timestamp=None, key=row.key, value=row.value) is None:
                    raise RuntimeError("a batch of changelog records is too large")
            for (topic, partition), builder in batches.items():
                in_flight.append(await producer.send_batch(builder, topic, partition=partition))
            if len(in_flight) > IN_FLIGHT_MAX:
                await asyncio.gather(*in_flight)
                in_flight.clear()
        await asyncio.gather(*in_flight)


async def _start_cold(run: Run) -> tuple[float, float]:
    """Seconds and CPU seconds of the process until it says that it is ready; then it is stopped, its disk emptied."""
    process, started_s = run.process, time.monotonic()
    with process:
        while not READY.search(process.log.read_bytes()):
            process.check_running()
            if time.monotonic() - started_s > READY_TIMEOUT_S:
                raise TimeoutError(f"{run.peer.title} is not ready after {READY_TIMEOUT_S:.0f} s\n{process.log_tail()}")
            await asyncio.sleep(POLL_S)
        seconds, cpu_s = time.monotonic() - started_s, process.usage().cpu_s
    rmtree(process.environment["BENCH_DATA_DIR"])
    return seconds, cpu_s
