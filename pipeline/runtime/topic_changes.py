"""Topics that change while the application runs: deleted, made again, given more partitions.

aiokafka looks at its topics every five minutes, and by name: it takes a topic that was made again for the old one.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted

from pipeline.kafka.topic_ids import TopicSeen
from pipeline.runtime.alerts import Alerts
from pipeline.runtime.check import STATE_WAS_IN_IT

log = logging.getLogger("hardparts.topics")

LOOK_EVERY_S = 10.0
"""One request each; what is new is looked at a second time, in case one broker is behind the others."""
LOOK_AGAIN_S = 1.0

Seen = Mapping[str, TopicSeen | None]


class Problem(NamedTuple):
    """What is wrong with a topic. alert: its name. about: as in the alert."""

    alert: str
    about: dict[str, Any]


class Cluster(Protocol):
    """What is asked and told, by the thread that is a member of the group."""

    topic_ids: Mapping[str, str]
    """topic → id of the one that the units here read, as their takeover found it."""

    async def see_topics(self, names: Iterable[str]) -> dict[str, TopicSeen | None]:
        """What is there now; the client takes note of it."""
        ...

    async def rejoin(self) -> None:
        """Ask the group for a rebalance."""
        ...


class TopicChanges:
    """Looks at the topics every LOOK_EVERY_S: an alert for what is wrong, a rebalance for what was made again.

    started_with: topic → partition count, as checked at start. assigned: topic → how many of the partitions that there
    are now are given to workers. read: sources. changelogs: read at a takeover, and written. keyed: ordered topics
    that are written here. moved: sources that have another count now; kept up to date.
    """

    def __init__(
        self,
        cluster: Cluster,
        alerts: Alerts,
        *,
        started_with: Mapping[str, int],
        assigned: Callable[[Mapping[str, int]], Mapping[str, int]],
        read: Iterable[str],
        changelogs: Iterable[str],
        keyed: Iterable[str],
        moved: set[str],
    ) -> None:
        self._cluster, self._alerts, self._moved = cluster, alerts, moved
        self._started_with, self._assigned = started_with, assigned
        self._changelogs, self._keyed = frozenset(changelogs), frozenset(keyed)
        self._sources = frozenset(read)
        self._read = self._sources | self._changelogs
        self._asking, self._asked_s = asyncio.Lock(), -math.inf
        self._seen: dict[str, TopicSeen | None] = {}
        self.problems: list[Problem] = []

    async def watch(self) -> None:
        """Look again and again; a broker that doesn't answer is somebody else's alert."""
        while True:
            try:
                await self.look()
            except (KafkaError, OSError, TimeoutError, ConsumerNotStarted) as error:
                log.debug("topics not looked at: %s", error)
            await asyncio.sleep(LOOK_EVERY_S)

    async def ask(self, age_max_s: float) -> None:
        """Bring `moved` up to date, unless that was done at most so long ago: whoever sees strange keys asks.

        A broker that doesn't answer leaves it as it was.
        """
        since_s = time.monotonic() - age_max_s
        async with self._asking:
            if self._asked_s >= since_s:
                return
            begun_s = time.monotonic()
            try:
                self._note_moved(await self._cluster.see_topics(self._sources))
                self._asked_s = begun_s
            except (KafkaError, OSError, TimeoutError, ConsumerNotStarted) as error:
                log.debug("topics not looked at: %s", error)
                self._asked_s = time.monotonic()  # who waits for the same answer needn't wait for its own

    def _note_moved(self, seen: Seen) -> None:
        """At once: the next records may be hashed by the new count. Back only when a second look agrees."""
        self._moved.update(n for n in self._sources if (is_ := seen.get(n)) and is_.partitions != self._started_with[n])

    async def look(self) -> None:
        """Look once, or twice if there is news, and act on what both saw."""
        seen = await self._cluster.see_topics(self._started_with)
        self._note_moved(seen)
        if seen != self._seen:
            await asyncio.sleep(LOOK_AGAIN_S)
            again = await self._cluster.see_topics(self._started_with)
            seen = {name: found for name, found in again.items() if name in seen and seen[name] == found}
        self._seen |= seen
        self._moved -= {name for name, found in seen.items() if found and found.partitions == self._started_with[name]}
        self._judge(problems(self._seen, self._started_with, self._assigned, self._read, self._changelogs, self._keyed))
        ids = self._cluster.topic_ids
        anew = [
            n for n, found in seen.items() if found and n in self._read and ids.get(n, "") not in ("", found.topic_id)
        ]
        if anew:
            log.warning("%s: deleted and made again: taking partitions over anew", ", ".join(anew))
            await self._cluster.rejoin()

    def _judge(self, found: list[Problem]) -> None:
        for old in self.problems:
            if old not in found:
                self._alerts.closed(old.alert)
        for problem in found:
            self._alerts.opened(problem.alert, **problem.about)
        self.problems = found


def problems(
    seen: Seen,
    started_with: Mapping[str, int],
    assigned: Callable[[Mapping[str, int]], Mapping[str, int]],
    read: frozenset[str],
    changelogs: frozenset[str],
    keyed: frozenset[str],
) -> list[Problem]:
    """What is wrong with the topics that were seen. See TopicChanges for the arguments; `read` has the changelogs too.

    A changelog with more partitions than before is fine: the workers use as many as there are units.
    """
    counts = {name: found.partitions if found else 0 for name, found in seen.items()}
    used = assigned(counts)
    wrong: list[Problem] = []
    for name, count in sorted(counts.items()):
        before = started_with[name]
        if not count:
            about: dict[str, Any] = {
                "topic": name,
                "problem": "missing",
                "remedy": STATE_WAS_IN_IT if name in changelogs else "create it: `hardparts topics apply`",
            }
            wrong.append(Problem(f"topics/{name}", about))
        elif name in changelogs and count > before:
            continue
        elif name in read and count != before:
            about = {"topic": name, "problem": "partitions", "partitions": count, "in_use": min(used[name], count)}
            wrong.append(Problem(f"partitions/{name}", {**about, "started_with": before, "remedy": NO_STATE}))
        elif count < before or (name in keyed and count != before):
            about = {"topic": name, "problem": "partitions", "partitions": count, "started_with": before}
            wrong.append(Problem(f"partitions/{name}", {**about, "remedy": RESTART}))
    return wrong


NO_STATE = (
    "partitions without a changelog partition are not read, keys have moved, in which partition a key belongs isn't "
    "checked, and no worker starts: see docs/runbook.md, Alert partitions"
)
RESTART = "restart all workers: those that run go by the old count"
