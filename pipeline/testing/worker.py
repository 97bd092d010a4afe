"""One agent on topics in memory: its units, what is committed, its crashes and restarts."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pipeline.core.agent import Definition
from pipeline.core.backoff import Backoff
from pipeline.core.contract import Contract
from pipeline.core.effects import Upsert
from pipeline.core.errors import Blocking
from pipeline.core.record import Batch, StoredRecord
from pipeline.core.turn import TURN, Turn
from pipeline.runtime.alerts import Alerts
from pipeline.runtime.app import App, app_version
from pipeline.runtime.context import Context
from pipeline.runtime.crashpoints import POINTS, CrashPoints
from pipeline.runtime.database import Database
from pipeline.runtime.demand import Demand
from pipeline.runtime.metrics import Metrics
from pipeline.runtime.ownership import Owner
from pipeline.runtime.store import Store
from pipeline.runtime.unit import Unit
from pipeline.testing.failures import Crashed, Failures
from pipeline.testing.log import MemoryLog, MemoryProducer
from pipeline.testing.store import MemoryStore, catch_up
from pipeline.testing.unit import KitUnit, StillBlocked

Disk = Literal["kept", "lost"]
FIRST_MS = 1_700_000_000_000


class FallibleDatabase(Database):
    """The real read model, whose calls can be planned to fail."""

    failures: Failures

    async def write(self, upserts: Sequence[Upsert], origins: Sequence[object] = ()) -> None:
        """As planned, or as it is."""
        failure = self.failures.next_call("database")
        if failure == "refused":
            raise Blocking("fault injected: refused", "database")
        await super().write(upserts, origins)
        if failure == "reply lost":
            raise Blocking("fault injected: reply lost", "database")


class Worker:
    """What a worker process does for one agent, without group and broker.

    Its topics outlive it: after a crash, `run` starts again from what is committed, with the state that the changelog
    holds. The clock is the records': each record is a millisecond later than the one before.
    """

    def __init__(
        self,
        app: App,
        agent: Definition,
        *,
        partitions: int,
        batch_records_max: int,
        attempts_max: int,
        database_url: str,
        data_dir: Path | None,
    ) -> None:
        self.app, self.agent, self.partitions = app, agent, partitions
        self.contracts: dict[str, Contract] = app.contracts
        self.failures = Failures()
        self.log = MemoryLog()
        self.crashes: list[str] = []
        self.fatal: Exception | None = None
        self._batch_records_max, self._attempts_max, self._data_dir = batch_records_max, attempts_max, data_dir
        self.database = FallibleDatabase(database_url, app.read_model)
        self.database.failures = self.failures
        self._changelog = app.changelog(agent)
        self._committed: dict[tuple[str, int], int] = {}
        self._arrived: list[list[StoredRecord]] = [[] for _ in range(partitions)]
        self._now = itertools.count(FIRST_MS)
        self._lives = 0
        self._stores: dict[int, Store] = {}
        self._begin()

    def _begin(self) -> None:
        """A new process: nothing in memory, another incarnation."""
        settings, self._lives = self.app.settings, self._lives + 1
        topics = [*(topic.name for topic in self.app.catalogue), settings.topic("errors"), settings.topic("audit")]
        self.context = Context(
            app_id=settings.app_id,
            app_version=app_version(),
            bootstrap=[],
            security={},
            contracts=self.contracts,
            partitions=dict.fromkeys(topics, self.partitions),
            errors_topic=settings.topic("errors"),
            audit_topic=settings.topic("audit"),
            demand=Demand(settings.demand),
            metrics=Metrics(),
            alerts=Alerts(),
            database=self.database,
            unread={topic.name for topic in self.agent.sources},
            fatal=self._die,
            backoff=Backoff(0.0, 0.0),
            incarnation=f"life-{self._lives}",
            crash=_AllPoints(self.failures),
            jitter=lambda low, _high: low,
            now_ms=self.now_ms,
        )
        self.units: dict[int, KitUnit] = {}

    def now_ms(self) -> int:
        """The kit's clock: a millisecond later at each look."""
        return next(self._now)

    def arrive(self, record: StoredRecord) -> StoredRecord:
        """A record at the end of a source topic-partition."""
        placed = record._replace(offset=self.log.append(record))
        self._arrived[record.partition].append(placed)
        return placed

    async def run(self) -> None:
        """Process all that has arrived, again after each planned crash, until it is done, blocked or dead."""
        while self.fatal is None:
            try:
                for partition in range(self.partitions):
                    await self._run_unit(partition)
            except (Crashed, BaseExceptionGroup) as error:
                if isinstance(error, BaseExceptionGroup) and error.subgroup(Crashed) is None:
                    raise
                self.crashes.append(str(_first(error)))
                self.restart("kept")
            else:
                return

    async def _run_unit(self, partition: int) -> None:
        unit = self.unit(partition)
        for batch in self._batches(unit):
            try:
                await unit.finish(batch)
            except StillBlocked:
                return self._commit(unit)
            except Exception as error:  # noqa: BLE001  # as in Unit._run: whatever it is, the process must not go on
                return self._die(error)
            self._commit(unit)
        return None

    def _commit(self, unit: KitUnit) -> None:
        self.failures.reach("commit")
        for topic, offset in unit.positions.items():
            self._committed[topic, unit.partition] = offset

    def _batches(self, unit: KitUnit) -> Iterator[Batch]:
        """What is not finished, in the order of arrival: each batch consecutive records of one topic-partition."""
        todo = [record for record in self._arrived[unit.partition] if record.offset >= unit.positions[record.topic]]
        for topic, run in itertools.groupby(todo, key=lambda record: record.topic):
            records = list(run)
            for at in range(0, len(records), self._batch_records_max):
                some = records[at : at + self._batch_records_max]
                yield Batch(topic, unit.partition, some[0].offset, some[-1].offset + 1, 0, some)

    def unit(self, partition: int) -> KitUnit:
        """The unit of `partition`, taken over when it isn't here yet."""
        if partition not in self.units:
            self.failures.reach("in-recovery")
            store = self._stores.get(partition) or self._stores.setdefault(partition, self._open(partition))
            catch_up(store, self.log, self._changelog, partition)
            unit = KitUnit(
                self.context, self.agent, partition, self._changelog, store, self._owner(partition),
                retake=self._retake, failures=self.failures, attempts_max=self._attempts_max,
            )  # fmt: skip
            unit.positions = {
                topic.name: unit.turn.positions.get(topic.name, self._committed.get((topic.name, partition), 0))
                for topic in self.agent.sources
            }
            self.context.demand.join(unit.name)
            self.units[partition] = unit
        return self.units[partition]

    def restart(self, disk: Disk) -> None:
        """The process is gone; the next one finds its disk, or an empty one, and the changelog."""
        if disk == "lost":
            for store in self._stores.values():
                store.close()
            self._stores.clear()
        self.fatal = None
        self._begin()

    def close(self) -> None:
        """Release the state directories and the database."""
        for store in self._stores.values():
            store.close()
        self._stores.clear()
        self.database.close()

    def _open(self, partition: int) -> Store:
        if self._data_dir is None:
            return MemoryStore()
        return Store(self._data_dir / f"life-{self._lives}" / self.agent.name / str(partition))

    def _owner(self, partition: int) -> Owner:
        name = f"{self.context.app_id}/{self.agent.name}/{partition}"
        return Owner(MemoryProducer(self.log, self.failures, self.now_ms), name)

    async def _retake(self, unit: Unit) -> None:
        catch_up(unit.store, self.log, self._changelog, unit.partition)
        unit.owner = self._owner(unit.partition)
        unit.turn = Turn.read(unit.store.get(TURN))
        unit.finished_until({topic: at for topic, at in unit.turn.positions.items() if topic in unit.positions})

    def _die(self, error: BaseException) -> None:
        self.fatal = error if isinstance(error, Exception) else RuntimeError(str(error))


class _AllPoints(CrashPoints):
    """The engine's own crash points, struck when the kit has planned it."""

    def __init__(self, failures: Failures) -> None:
        super().__init__()
        self._failures = failures

    def reach(self, point: str) -> None:
        """`point` is one of `POINTS`."""
        assert point in POINTS
        self._failures.reach(point)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
