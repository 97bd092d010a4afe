"""The day: events flow, the database goes away, a worker is killed, everything drains, and somebody counts."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from aiokafka.errors import KafkaError

from pipeline.core.errors import HardpartsError
from pipeline.demo.cluster import Cluster, cluster, make_topics
from pipeline.demo.count import count
from pipeline.demo.crew import Crew, crew
from pipeline.demo.feed import Feed
from pipeline.demo.generate import BOBBY, Generator
from pipeline.demo.outage import Outage, make_database
from pipeline.demo.readback import Offsets, read_back
from pipeline.demo.verdict import Row, judge
from pipeline.demo.view import View
from pipeline.demo.watch import Standing, Watch
from pipeline.demo.webhook import Alert, Webhook

LOOK_EVERY_S = 0.5
STANDSTILL_S = 40.0
OUTAGE_S = 3.0
"""How long the database stays away once the alert is out."""


class Standstill(HardpartsError):
    """What should have happened didn't."""


@dataclass(frozen=True)
class Options:
    """What was asked for. seconds: over which the events are fed."""

    events: int
    seconds: float
    workers: int
    broker: str | None
    seed: int


class Story:
    """One demo, from the broker's start; `async with` it, then `day` and `verdict`. At the end everything stops."""

    def __init__(self, options: Options, view: View, directory: Path) -> None:
        self._options, self._view, self._directory = options, view, directory
        self._stack = AsyncExitStack()
        self._webhook = Webhook(self._on_alert)
        self.standing = Standing([])
        self.bobby = "0-0"
        self.cluster: Cluster
        self.crew: Crew
        self._begins: Offsets
        self._feed: Feed
        self._watch: Watch

    async def __aenter__(self) -> Self:
        try:
            await self._set_up()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _set_up(self) -> None:
        options, view, enter = self._options, self._view, self._stack.enter_async_context
        self.cluster = where = await enter(cluster(options.broker, self._directory))
        view.note("broker", f"{'embedded, ' if where.embedded else ''}at {where.url}")
        self._begins = await make_topics(where)
        view.note("topics", f"made by `hardparts topics apply`, {where.partitions} partitions each")
        make_database(where.database)
        webhook = await enter(self._webhook)
        self.crew = await enter(crew(where, view, webhook.url, options.workers))
        self._watch = await enter(Watch(where.client, where.names, where.partitions, self._begins))
        records = Generator(options.seed).records(options.events)
        self._feed = await enter(Feed(where.client, records, options.events, options.seconds))

    async def day(self) -> None:
        """All that happens until everything fed is finished."""
        looking, telling = asyncio.create_task(self._look()), asyncio.create_task(self._tell(self._feed))
        try:
            await asyncio.wait([looking, telling], return_when=asyncio.FIRST_COMPLETED)
        finally:
            looking.cancel()
            telling.cancel()
            ended = await asyncio.gather(looking, telling, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _tell(self, feed: Feed) -> None:
        self._view.note(
            "feeding", f"{feed.total:,} events over {self._options.seconds:g} s, with duplicates and poison records"
        )
        await feed.until(0.2)
        await self._outage(feed)
        await feed.until(0.6)
        await self._kill(feed)
        await feed.until(1.0)
        self._view.note("fed", "all of it; what waits is finished now")
        await self._until("everything is finished", self._quiet)
        self._view.note("quiet", "lag 0 everywhere")

    async def _outage(self, feed: Feed) -> None:
        """The read model's database goes away and comes back, while events go on."""
        view, hook, before = self._view, self._webhook, self.standing.done
        async with Outage(self.cluster.database):
            view.note("outage", "the read model's database is away: another connection holds its lock")
            going_on = asyncio.create_task(feed.until(0.45))
            try:
                await self._until("an alert arrives", lambda: bool(hook.opened))
                await asyncio.sleep(OUTAGE_S)
                await going_on
            finally:
                going_on.cancel()
            more = self.standing.done - before
            view.note("outage", f"over; meanwhile user-events has finished {more:,} events")
        await self._until("the alerts are closed", lambda: not hook.open)

    async def _kill(self, feed: Feed) -> None:
        """One worker dies without a goodbye; another one takes its place."""
        victim = self.crew.members[-1]
        self._view.note("kill", f"{victim.name} (process {victim.pid}) gets SIGKILL in the middle of its work")
        await victim.kill()
        replacement = await self.crew.hire()
        self._view.note("kill", f"{replacement.name} takes its place, with an empty disk")
        going_on = asyncio.create_task(feed.until(0.85))
        try:
            await replacement.ready()
            await going_on
        finally:
            going_on.cancel()

    async def _look(self) -> None:
        """Keep the view up to date; ends only with an error."""
        failing_since = 0.0
        while True:
            self.cluster.require_alive()
            try:
                self.standing = await self._watch.look(self.crew.members)
                failing_since = 0.0
            except (KafkaError, OSError) as error:
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > STANDSTILL_S:
                    raise Standstill(f"the broker doesn't say where the group stands: {error!r}") from error
            for error_record in self._watch.new_errors:
                if BOBBY.encode() in error_record.value:
                    self.bobby = error_record.id
                    self._view.note("rejected", error_record.explain.partition("\n")[0])
            self.crew.require_alive()
            self._view.progress(self._feed.fed, self.standing)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until `holds()`; Standstill when neither that nor any progress is seen for STANDSTILL_S."""
        seen, news_at = None, time.monotonic()
        while not holds():
            now = self.standing.done, self.standing.outputs_lag
            if now != seen:
                seen, news_at = now, time.monotonic()
            if time.monotonic() - news_at > STANDSTILL_S:
                blocked = ", ".join(self.standing.blocked) or "nothing says that it is blocked"
                raise Standstill(
                    f"waited in vain until {what}: lag {self.standing.lag}, outputs' lag {self.standing.outputs_lag}; "
                    f"{blocked}; logs are in {self._directory}"
                )
            await asyncio.sleep(LOOK_EVERY_S / 5)

    def _quiet(self) -> bool:
        return self.standing.done >= self._feed.fed and not self.standing.lag and not self.standing.outputs_lag

    def _on_alert(self, alert: Alert) -> None:
        about = str(alert["alert"])
        if alert["state"] == "open":
            who = f"{alert.get('agent')}, partition {alert.get('partition')}"
            log = self.crew.log_with(f"ALERT opened {about}") or "no log"
            self._view.note("alert", f"{who}: {alert.get('message')} (by webhook, and in {log})")
        else:
            self._view.note("closed", f"{about.removeprefix('blocked:')} after {alert.get('blocked_s')} s")

    async def verdict(self) -> list[Row]:
        """What must have come out beside what did."""
        self._view.note("counting", "what must have come out, from the input topics alone; and what did")
        where = self.cluster
        did = await read_back(where.client, where.names, where.partitions, self._begins, where.database)
        return judge(count(did.inputs), did, self._feed.fed)
