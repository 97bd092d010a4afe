"""The gateway at a steady rate, with Kafka and without, beside a bare server; then accepted = in topic."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.kafka.cluster import KafkaCluster
from tests.kafka.requests import create_topics
from tests.oracle.truth import stream

from .process import PeerProcess
from .report import Sheet

TOPIC = "user-events"
USERS = 5_000
STEP_S = 0.005
DRAIN_S = 900.0
MSG_CHARS = 80
BARE_SECONDS_MAX = 60.0
WARM_UP_S = 10.0
"""A Kafka that has just started compiles itself; that is not what is measured."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of one server, in milliseconds."""

    name: str
    requests: int
    rate_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the run found. lost: accepted and not in the topic. disordered: users whose events aren't in order."""

    rate_per_s: float
    seconds: float
    accepted: int
    lost: int
    repeated: int
    disordered: int
    waiting: int
    drained_s: float
    latencies: list[Latencies]

    def as_json(self) -> dict[str, Any]:
        """A JSON document."""
        return {"benchmark": "gateway", **asdict(self)}


@dataclass(slots=True)
class Load:
    """Posts events at a rate, whatever the answers take. accepted: user → numbers of events, in order."""

    url: str
    accepted: dict[int, list[int]] = field(default_factory=dict)
    number: int = 0

    async def run(self, name: str, rate_per_s: float, seconds: float) -> Latencies:
        """A user's next event is posted when the one before was answered. RuntimeError for another answer than 202."""
        free, took, failed = deque(range(USERS)), list[float](), list[str]()
        tasks: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def post(number: int, user: int) -> None:
                began = time.perf_counter()
                try:
                    async with session.post(f"{self.url}/events/{TOPIC}", data=event(number, user)) as answer:
                        await answer.read()
                except aiohttp.ClientError as error:
                    failed.append(str(error) or type(error).__name__)
                    return
                took.append(time.perf_counter() - began)
                if answer.status != 202:
                    failed.append(f"{answer.status}")
                    return
                self.accepted.setdefault(user, []).append(number)
                free.append(user)

            began = time.perf_counter()
            posted, wanted = 0, int(rate_per_s * seconds)
            while posted < wanted and not failed:
                due = min(wanted, int((time.perf_counter() - began) * rate_per_s) + 1)
                while posted < due and free:
                    task = asyncio.create_task(post(self.number, free.popleft()))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    posted += 1
                    self.number += 1
                await asyncio.sleep(STEP_S)
            await asyncio.gather(*tasks)
            elapsed = time.perf_counter() - began
        if failed:
            raise RuntimeError(f"{name}: not accepted: {failed[0]}")
        took.sort()
        p50, p99 = (took[int(len(took) * share)] * 1000 for share in (0.5, 0.99))
        return Latencies(name, len(took), len(took) / elapsed, p50, p99, took[-1] * 1000)


def event(number: int, user: int) -> bytes:
    """The event of this number."""
    data = {"user_id": user, "msg": "x" * MSG_CHARS}
    return json.dumps({"msg_id": msg_id(number), "type": "comment.created", "data": data}).encode()


def msg_id(number: int) -> str:
    """A UUIDv4 that says its number."""
    return f"{number:08x}-0000-4000-8000-000000000000"


async def gateway(
    cluster: KafkaCluster,
    directory: Path,
    *,
    rate_per_s: float,
    seconds: float,
    partitions: int,
    say: Callable[[str], None],
) -> Gateway:
    """The bare server; then the gateway for half of `seconds` with Kafka and for the other half with Kafka killed."""
    gc.collect()
    gc.freeze()  # a collection of everything that is loaded would be measured as the server's
    gc.set_threshold(400_000, 20, 100)
    await create_topics(cluster.bootstrap, {TOPIC: partitions}, 1, {})
    found: list[Latencies] = []

    def note(latencies: Latencies) -> None:
        found.append(latencies)
        say(f"{latencies.name}: {latencies.rate_per_s:,.0f}/s, p99 {latencies.p99_ms:.1f} ms")

    bare = ("-m", "tests.bench.peers.group_commit", str(directory / "journal"))
    with PeerProcess(bare, {}, directory / "bare.log") as server:
        load = Load(await url_of(server))
        await load.run("warm-up", rate_per_s, WARM_UP_S)
        note(await load.run("bare server, group commit", rate_per_s, min(seconds / 2, BARE_SECONDS_MAX)))
    environment = {
        "HARDPARTS_BROKER": cluster.bootstrap, "HARDPARTS_DATA_DIR": str(directory / "data"),
        "HARDPARTS_INSTANCE": "bench", "HARDPARTS_GATEWAY_PORT": "0",
    }  # fmt: skip
    with PeerProcess(("-m", "pipeline", "gateway"), environment, directory / "gateway.log") as server:
        load = Load(await url_of(server))
        await load.run("warm-up", rate_per_s, WARM_UP_S)
        note(await load.run("gateway", rate_per_s, seconds / 2))
        await asyncio.to_thread(cluster.kill_broker, 1)
        try:
            note(await load.run("gateway, Kafka away", rate_per_s, seconds / 2))
            waiting = await in_custody(load.url)
        finally:
            await asyncio.to_thread(cluster.start_broker, 1)
        say(f"{waiting:,} in custody when Kafka is back")
        began = time.perf_counter()
        while await in_custody(load.url):
            if time.perf_counter() - began > DRAIN_S:
                raise TimeoutError(f"custody isn't empty {DRAIN_S:.0f} s after Kafka's return:\n{server.log_tail()}")
            await asyncio.sleep(0.2)
        drained_s = time.perf_counter() - began
    there = await in_topic(cluster.bootstrap)
    accepted = {number for numbers in load.accepted.values() for number in numbers}
    first = {user: list(dict.fromkeys(numbers)) for user, numbers in there.items()}
    return Gateway(
        rate_per_s=rate_per_s,
        seconds=seconds,
        accepted=len(accepted),
        lost=len(accepted - {number for numbers in first.values() for number in numbers}),
        repeated=sum(map(len, there.values())) - sum(map(len, first.values())),
        disordered=sum(first.get(user, []) != numbers for user, numbers in load.accepted.items()),
        waiting=waiting,
        drained_s=drained_s,
        latencies=found,
    )


async def url_of(server: PeerProcess, timeout_s: float = 60) -> str:
    """Where it listens, once it says so."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        server.check_running()
        for line in server.log.read_text(errors="replace").splitlines():
            if line.startswith("ready "):
                return line.removeprefix("ready ").strip()
        await asyncio.sleep(0.05)
    raise TimeoutError(f"not ready within {timeout_s:.0f} s:\n{server.log_tail()}")


async def in_custody(url: str) -> int:
    """Messages that Kafka hasn't confirmed."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("hardparts_custody_messages{"))


async def in_topic(bootstrap: str) -> dict[int, list[int]]:
    """user → numbers of the events in the topic, in order."""
    found: dict[int, list[int]] = {}
    async for records in stream(bootstrap, [TOPIC]):
        for record in records:
            value = json.loads(record.value or b"")
            found.setdefault(value["data"]["user_id"], []).append(int(value["msg_id"][:8], 16))
    return found


def gateway_sheet(result: Gateway) -> Sheet:
    """A row a server."""
    bare, up = result.latencies[0], result.latencies[1]
    title = (
        f"{result.rate_per_s:,.0f} requests/s of one event, {result.seconds:g} s, half of them with Kafka away; "
        f"{result.accepted:,} accepted, {result.lost} lost, {result.repeated} repeated, "
        f"{result.disordered} users out of order; {result.waiting:,} in custody at Kafka's return, "
        f"none {result.drained_s:.1f} s later"
    )
    rows: Sequence[tuple[str, ...]] = [
        (
            one.name,
            f"{one.rate_per_s:,.0f}",
            f"{one.p50_ms:.1f}",
            f"{one.p99_ms:.1f}",
            f"{one.max_ms:.0f}",
            f"{one.p99_ms / bare.p99_ms:.1f}",
            "-" if one is bare else f"{one.p99_ms / up.p99_ms:.1f}",
        )
        for one in result.latencies
    ]
    columns = ("server", "requests/s", "p50 ms", "p99 ms", "max ms", "p99 ÷ bare", "p99 ÷ with Kafka")
    return Sheet(title, columns, rows)
