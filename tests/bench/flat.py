"""Cost per event against how many ids its user has: it must not grow.

Every case holds the same number of ids in the same one partition, spread over many users or over one, so that only
the number per user differs. The measured events follow the existing ones in the topic; the worker reads both in one go.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from .kafka_topics import EndOffsets, delete_topics, fill
from .peer import OURS, RUN_PREFIX, Preparation, Site, apply_topics
from .verify import verify
from .watch import cpu_s_per_100k, rate_per_s, watch
from .workload import INPUT_TOPIC, Comment, new_comment

IDS_PER_USER = (10, 1_000, 100_000)
STALL_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of CPU and of time that one more event costs when its user has `ids` (up to `ids_after`) ids."""

    ids: int
    ids_after: int
    cpu_us: float
    wall_us: float


@dataclass(frozen=True, slots=True)
class Flatness:
    """Costs by ids per user, medians over the rounds."""

    existing: int
    measured: int
    rounds: int
    costs: list[Cost]

    def ratio(self, cost: Cost) -> float:
        """CPU cost relative to the case with the fewest ids."""
        return cost.cpu_us / self.costs[0].cpu_us

    def as_json(self) -> dict[str, Any]:
        """A JSON document with the costs and their ratios."""
        return {"benchmark": "flat", **asdict(self), "ratios": {cost.ids: self.ratio(cost) for cost in self.costs}}


async def flat(
    site: Site, ids_per_user: Sequence[int], *, measured: int, rounds: int, say: Callable[[str], None]
) -> Flatness:
    """Measure each case `rounds` times, in turns. The existing ids are as many as the largest case gives one user."""
    site = replace(site, partitions=1)
    existing = max(ids_per_user)
    runs: dict[int, list[Cost]] = {ids: [] for ids in ids_per_user}
    for number in range(1, rounds + 1):
        for ids in ids_per_user:
            say(f"round {number} of {rounds}: {ids:,} ids for each user, {existing:,} in all; then {measured:,} events")
            runs[ids].append(await _cost(site, existing, ids, measured))
    costs = [
        replace(costs[0], cpu_us=median(c.cpu_us for c in costs), wall_us=median(c.wall_us for c in costs))
        for costs in runs.values()
    ]
    return Flatness(existing, measured, rounds, costs)


def _comments(users: int, total: int, applied: Counter[int]) -> Iterator[Comment]:
    rng = random.Random(users)
    turn = list(range(1, users + 1))
    while (left := total - applied.total()) > 0:
        # In turns, so that all users have equally many at any time; shuffled, because users in order of their keys
        # would be kind to RocksDB's caches, and only where there are many users.
        rng.shuffle(turn)
        for user_id in turn[:left]:
            applied[user_id] += 1
            yield new_comment(rng, user_id)


async def _cost(site: Site, existing: int, ids: int, measured: int) -> Cost:
    users, target = existing // ids, existing + measured
    await delete_topics(site.bootstrap, names=[INPUT_TOPIC])
    await apply_topics(site, f"{RUN_PREFIX}fill")
    applied: Counter[int] = Counter()
    await fill(site.bootstrap, INPUT_TOPIC, _comments(users, target, applied), site.partitions)
    async with Preparation(OURS, site) as prepared, EndOffsets(site.bootstrap, prepared.output_topic) as ends:
        begin = await ends.by_partition()
        with prepared.process as process:
            curve = await watch(
                process, ends, baseline=0, target=target, started_s=time.monotonic(), timeout_s=STALL_TIMEOUT_S
            )
        await verify(site.bootstrap, begin, await ends.by_partition(), applied, whole=True)
    window = curve.window(existing, target)
    return Cost(ids, ids + measured // users, cpu_s_per_100k(window) * 10, 1_000_000 / rate_per_s(window))
