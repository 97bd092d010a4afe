"""The kit: give an agent records, say what must come out. No broker, and the same path as in a worker."""

import asyncio
import weakref
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.core.idempotence import new_msg_id
from pipeline.core.record import StoredRecord, type_headers
from pipeline.core.routing import encode_key, partition_of
from pipeline.core.topic import Topic
from pipeline.core.views import View
from pipeline.runtime.agent import Agent
from pipeline.runtime.crashpoints import POINTS
from pipeline.testing.failures import STEPS, Dependency, Failure
from pipeline.testing.readmodel import ReadModel
from pipeline.testing.sequences import Input
from pipeline.testing.verdicts import Verdicts, types_of
from pipeline.testing.worker import Disk, Worker


class Kit(Verdicts):
    """One agent with its topics in memory.

        kit = Kit(user_events)
        kit.given("comment.created", user_id=1, msg="hello")
        kit.then_event("comment.counted", {"user_id": 1, "count": 1})
        kit.then_no_event()

    `given` puts records on the agent's source topics; the first `then_…` (or `run`) processes all that has arrived, in
    batches of at most `batch_records_max`, by the same eight steps as in a worker. partitions: how many each topic has.
    attempts_max: after how many failed attempts of a run a blocked record counts as blocked. database_url: a read model
    of your own, e.g. PostgreSQL; without it an SQLite file of the kit's own. data_dir: keep state in RocksDB there,
    instead of in memory.

    For plain (synchronous) tests; a kit shares nothing with another one. It is released when it is dropped, or by
    `close`, or at the end of a `with` block.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        partitions: int = 1,
        batch_records_max: int = 1000,
        attempts_max: int = 3,
        database_url: str | None = None,
        data_dir: Path | None = None,
    ) -> None:
        self._read_model = ReadModel(agent.app.read_model, database_url)
        worker = Worker(
            agent.app,
            agent.definition,
            partitions=partitions,
            batch_records_max=batch_records_max,
            attempts_max=attempts_max,
            database_url=self._read_model.url,
            data_dir=data_dir,
        )
        super().__init__(worker)
        self._loop = asyncio.new_event_loop()
        self._made = 0
        self._release = weakref.finalize(self, _release, self._loop, worker, self._read_model)

    # ------------------------------------------------------------------ given

    def event(
        self,
        type_: str,
        fields: Mapping[str, Any] | None = None,
        /,
        *,
        topic: Topic | None = None,
        msg_id: str | None = None,
        meta: Mapping[str, Any] | None = None,
        headers: type_headers = (),
        **data: Any,
    ) -> Input:
        """An event that its contract accepts, with the right key, not given yet; AssertionError says what is wrong.

        fields, data: the event's `data`; `fields` is for names that Python or this method uses itself. topic: only when
        several sources have this type. msg_id: a fresh one, the same in every run, when none is named.
        """
        source = topic or self._source_of(type_)
        self._made += 1
        msg_id = msg_id or new_msg_id(blake2b(b"%d" % self._made, digest_size=16).digest())
        body = {**(fields or {}), **data}
        try:
            value = self.worker.contracts[source.name].encode(type_, msg_id, body, meta)
        except Exception as error:
            raise AssertionError(f"{type_} breaks its contract (to test that, give raw bytes): {error}") from error
        key = None if source.key is None else encode_key(body[source.key])
        return Input(source.name, key, value, headers, msg_id, type_)

    def raw(
        self, value: bytes | None, key: bytes | None = b"1", *, topic: Topic | None = None, headers: type_headers = ()
    ) -> Input:
        """Any bytes, for the agent's first source unless `topic` names another."""
        return Input((topic or self.worker.agent.sources[0]).name, key, value, headers)

    def given(self, type_: str, fields: Mapping[str, Any] | None = None, /, **more: Any) -> Input:
        """Put one event on its source topic; takes what `event` takes, and returns it (its msg_id, for a repeat)."""
        made = self.event(type_, fields, **more)
        self.feed([made])
        return made

    def given_raw(
        self, value: bytes | None, key: bytes | None = b"1", *, topic: Topic | None = None, headers: type_headers = ()
    ) -> Input:
        """Put any bytes on a source topic."""
        made = self.raw(value, key, topic=topic, headers=headers)
        self.feed([made])
        return made

    def feed(self, inputs: Iterable[Input], partitions: Iterable[int] | None = None) -> None:
        """Put these on their topics, in this order; `partitions` names one for each, instead of its key's."""
        numbers = iter(partitions) if partitions is not None else None
        for one in inputs:
            if numbers is not None:
                number = next(numbers) % self.worker.partitions
            else:
                by = self.worker.app.catalogue.partitioner(one.topic)
                number = 0 if one.key is None else partition_of(one.key, self.worker.partitions, by)
            stamp, headers = self.worker.now_ms(), tuple(one.headers)
            self.unsettled = True
            self.worker.arrive(StoredRecord(one.topic, number, -1, stamp, one.key, one.value, headers))

    # ------------------------------------------------------------------ faults

    def fail(self, dependency: Dependency, calls: Iterable[int], failure: Failure = "refused") -> None:
        """Let these calls (from 1, counted from now) to the broker, the database or outside effects fail.

        refused: nothing happened. reply lost: it happened, and the caller doesn't learn it.
        """
        self.worker.failures.plan(dependency, calls, failure)

    def crash(self, before: str, times: int = 1) -> None:
        """Kill the process when it comes before this step (or to this crash point of the engine) for the `times`-th
        time; `run` then goes on as a restarted process does: from the changelog and from what was committed.
        """
        if before not in (*STEPS, *POINTS):
            raise ValueError(f"{before!r} is none of {', '.join((*STEPS, *POINTS))}")
        self.worker.failures.plan_crash(before, times)

    def restart(self, disk: Disk = "kept") -> None:
        """Stop between two batches and start again; `lost` rebuilds the state from the changelog."""
        self.settle()
        self.worker.restart(disk)
        self.unsettled = True

    def run(self) -> None:
        """Process all that has arrived; a blocked record is tried `attempts_max` times again."""
        if _in_a_loop():
            raise RuntimeError(
                "the kit has an event loop of its own: use it in a plain test function, not an async one"
            )
        self.unsettled = self.acknowledged = False
        self._loop.run_until_complete(self.worker.run())

    # ------------------------------------------------------------------ looking

    def state(self, view: View | str, key: str | int) -> Any:
        """What `tables get` would show of a view under `key`; None without such a row."""
        self.settle()
        name = view if isinstance(view, str) else view.name
        known = {one.name: one for one in self.worker.agent.views}
        if name not in known:
            raise AssertionError(f"agent {self.worker.agent.name} has no view {name!r}: {', '.join(known) or 'none'}")
        row = known[name].row_of(str(key))
        for partition in range(self.worker.partitions):
            value = self.worker.unit(partition).store.get(row)
            if value is not None:
                return known[name].show_value(value)
        return None

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table of the SQL read model, in the order of its primary key."""
        self.settle()
        return self._read_model.rows(table)

    def close(self) -> None:
        """Release what the kit holds."""
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _source_of(self, type_: str) -> Topic:
        sources = self.worker.agent.sources
        having = [topic for topic in sources if type_ in types_of(self.worker.contracts[topic.name])]
        if len(having) != 1:
            known = ", ".join(name for topic in sources for name in types_of(self.worker.contracts[topic.name]))
            problem = "is in several sources: name the topic" if having else f"is in no source; there are {known}"
            raise AssertionError(f"{type_} {problem}")
        return having[0]


def _release(loop: asyncio.AbstractEventLoop, worker: Worker, read_model: ReadModel) -> None:
    loop.close()
    worker.close()
    read_model.close()


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
