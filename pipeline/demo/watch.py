"""Where the group stands, asked from outside: offsets from the broker, health from the workers, the error topic."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import aiohttp
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from pipeline.closing import stopped
from pipeline.demo.names import INPUTS, OUTPUTS, Names
from pipeline.demo.readback import Offsets
from pipeline.demo.workers import Worker

HEALTH_TIMEOUT_S = 1.0
RATE_OVER_S = 3.0


class Partition(NamedTuple):
    """One partition number: records done and behind of the inputs, and behind of the outputs that agents read in turn.

    worker: "" while nobody has it. ready: whether that worker is past its last takeover.
    """

    number: int
    worker: str
    done: int
    lag: int
    per_s: float
    outputs_lag: int
    blocked: str
    ready: bool


@dataclass
class Standing:
    """The pipeline at one moment."""

    partitions: list[Partition]
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """Input records finished."""
        return sum(partition.done for partition in self.partitions)

    @property
    def lag(self) -> int:
        """Input records waiting."""
        return sum(partition.lag for partition in self.partitions)

    @property
    def outputs_lag(self) -> int:
        """Output records that an agent has yet to read."""
        return sum(partition.outputs_lag for partition in self.partitions)

    @property
    def per_s(self) -> float:
        """Input records finished per second."""
        return sum(partition.per_s for partition in self.partitions)

    @property
    def blocked(self) -> list[str]:
        """What stands still and why, with the number of partitions."""
        reasons = Counter(partition.blocked for partition in self.partitions if partition.blocked)
        reasons["rebalance"] = sum(not partition.ready for partition in self.partitions)
        reasons = +reasons
        return [f"{reason} ({number} partition{'s' * (number > 1)})" for reason, number in reasons.items()]


class Error(NamedTuple):
    """A rejected record: its id for `hardparts errors show`, what it was and why it was rejected."""

    id: str
    value: bytes
    error_class: str
    explain: str


class Watch:
    """`async with Watch(…) as watch: await watch.look()`. `new_errors` are those since the last look."""

    def __init__(self, client: Mapping[str, Any], names: Names, partitions: int, begins: Offsets) -> None:
        self._names, self._count, self._begins = names, partitions, begins
        self._admin = AIOKafkaAdminClient(**client)
        self._consumer = AIOKafkaConsumer(**client, enable_auto_commit=False, fetch_max_wait_ms=100)
        self._history: list[tuple[float, dict[int, int]]] = []
        self._errors: Counter[str] = Counter()
        self.new_errors: list[Error] = []

    async def look(self, workers: list[Worker]) -> Standing:
        """The standing now; KafkaError when the broker doesn't say."""
        await self._read_errors()
        offsets = await self._admin.list_consumer_group_offsets(self._names.app_id)
        committed = {place: found.offset for place, found in _by_name(offsets).items()}
        places = [TopicPartition(topic, number) for topic in (*INPUTS, *OUTPUTS) for number in range(self._count)]
        ends = _by_name(await self._consumer.end_offsets(places))
        begins = {place: self._begins.get(place, 0) for place in ends}
        reached = {place: max(committed.get(place, 0), begins[place]) for place in ends}
        lags = {place: max(ends[place] - reached[place], 0) for place in ends}
        numbers = range(self._count)
        done = {number: sum(reached[topic, number] - begins[topic, number] for topic in INPUTS) for number in numbers}
        rates, (blocked, ready) = self._rates(done), await self._health(workers)
        owners = {number: worker.name for worker in workers if worker.running for number in worker.partitions or ()}
        partitions = [
            Partition(
                number=number,
                worker=owners.get(number, ""),
                done=done[number],
                lag=sum(lags[topic, number] for topic in INPUTS),
                per_s=rates[number],
                outputs_lag=sum(lags[topic, number] for topic in OUTPUTS),
                blocked=blocked.get(number, ""),
                ready=owners.get(number) in ready,
            )
            for number in numbers
        ]
        return Standing(partitions, Counter(self._errors))

    def _rates(self, done: dict[int, int]) -> dict[int, float]:
        now = time.monotonic()
        self._history = [(at, then) for at, then in self._history if now - at <= RATE_OVER_S] + [(now, done)]
        since, first = self._history[0]
        return {number: (done[number] - first[number]) / max(now - since, 0.1) for number in done}

    async def _health(self, workers: list[Worker]) -> tuple[dict[int, str], set[str]]:
        """Why each blocked partition is blocked; the workers that are ready."""
        asked = [worker for worker in workers if worker.running and worker.web]
        answers = await asyncio.gather(*(self._ask(worker) for worker in asked))
        heads = [head for answer in answers for head in answer.get("blocked", ())]
        blocked = {head["partition"]: "{agent} blocked on {reason} {seconds:.0f} s".format(**head) for head in heads}
        ready = {worker.name for worker, answer in zip(asked, answers, strict=True) if answer.get("ready")}
        return blocked, ready

    async def _ask(self, worker: Worker) -> dict[str, Any]:
        with suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
            async with self._http.get(f"{worker.web}/health/ready") as answer:
                return dict(await answer.json())
        return {}

    async def _read_errors(self) -> None:
        self.new_errors = []
        for records in (await self._consumer.getmany(timeout_ms=0)).values():
            for record in records:
                said = {name: value.decode(errors="replace") for name, value in record.headers}
                id_ = f"{record.partition}-{record.offset}"
                error = Error(
                    id_, record.value or b"", said.get("hp-error-class", "?"), said.get("hp-error-explain", "")
                )
                self.new_errors.append(error)
                self._errors[error.error_class] += 1

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HEALTH_TIMEOUT_S))
        await self._admin.start()
        await self._consumer.start()
        places = [TopicPartition(self._names.errors, number) for number in range(self._count)]
        self._consumer.assign(places)
        for place in places:
            self._consumer.seek(place, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()
        await stopped(self._consumer.stop())
        await stopped(self._admin.close())


def _by_name(places: Mapping[Any, Any]) -> dict[tuple[str, int], Any]:
    return {(place.topic, place.partition): value for place, value in places.items()}
