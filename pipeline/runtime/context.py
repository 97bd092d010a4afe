"""What every unit of a worker shares."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from pipeline.core.backoff import Backoff
from pipeline.core.contract import Contract
from pipeline.core.homes import Homes
from pipeline.core.settle import Limits
from pipeline.runtime.alerts import Alerts
from pipeline.runtime.crashpoints import CrashPoints
from pipeline.runtime.database import Database
from pipeline.runtime.demand import Demand
from pipeline.runtime.metrics import Metrics


async def _nothing(*_: float) -> None:
    pass


@dataclass(slots=True)
class Context:
    """Settings and services of one worker process, as the units need them.

    incarnation: tells this process from every other, for claims. partitions: topic → partition count. fatal: called
    with an exception after which the process must not go on. holds_lease: whether a heartbeat was answered within the
    session timeout; without, another worker may own our units. cluster_id: Kafka's; "" while it isn't known. room: set
    when a unit can take more. acting: outside effects, by unit name and claim row, that this process has begun and not
    yet recorded. ask_limits: asks the topics for their limits anew. homes: where keys belong. moved: sources whose
    partition count isn't that of the start any more. unread: those of which nothing had been read before this process.
    ask_counts: brings `moved` up to date, unless it was at most so many seconds ago.
    """

    app_id: str
    app_version: str
    bootstrap: list[str]
    security: dict[str, Any]
    contracts: Mapping[str, Contract]
    partitions: dict[str, int]
    errors_topic: str
    audit_topic: str
    demand: Demand
    metrics: Metrics
    alerts: Alerts
    database: Database
    fatal: Callable[[BaseException], None]
    holds_lease: Callable[[], bool] = lambda: True
    cluster_id: str = ""
    room: asyncio.Event = field(default_factory=asyncio.Event)
    limits: Limits = field(default_factory=Limits)
    ask_limits: Callable[[], Awaitable[None]] = _nothing
    homes: Homes = field(default_factory=Homes)
    moved: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)
    ask_counts: Callable[[float], Awaitable[None]] = _nothing
    backoff: Backoff = field(default_factory=Backoff)
    incarnation: str = field(default_factory=lambda: uuid4().hex)
    acting: set[tuple[str, bytes]] = field(default_factory=set)
    crash: CrashPoints = field(default_factory=CrashPoints)
    jitter: Callable[[float, float], float] = random.uniform
    now_ms: Callable[[], int] = lambda: int(time.time() * 1000)
