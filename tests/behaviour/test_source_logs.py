"""What a worker does when the log of a source isn't what it was: its end went back, records are gone or held back."""

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.admin import NewTopic
from faust.types import TP

from pipeline.broker import EmbeddedBroker
from pipeline.core.effects import Publish
from pipeline.core.event import Event
from pipeline.core.record import Batch, StoredRecord
from pipeline.core.state import State
from pipeline.runtime.alerts import EVENT_OPEN_S, Alerts
from pipeline.runtime.erase import Erasure, NotNow
from pipeline.runtime.metrics import Metrics
from pipeline.runtime.source_logs import LOOK_EVERY_S, STANDS_MAX_S, SourceLogs, records_lost
from pipeline.runtime.transport import Fetched, LogEnds
from pipeline.runtime.units import Units
from pipeline.testing.unit import KitUnit
from pipeline.testing.worker import Worker
from tests.behaviour.small_agent import small_agent
from tests.kafka import requests

TOPIC = "user-events"
SOURCE = TP(TOPIC, 0)
FAR = 10**9


def batch(start: int, end: int, at_ms: int = 1_700_000_000_000) -> Batch:
    """One record for each offset; none when the log has gone back from `start` to `end`."""

    def comment(offset: int) -> StoredRecord:
        event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": 1, "msg": "hello"}}
        return StoredRecord(TOPIC, 0, offset, at_ms, b"1", json.dumps(event).encode())

    return Batch(TOPIC, 0, start, end, 0, [comment(offset) for offset in range(start, end)])


class Scene:
    """A unit whose positions are at `position`, and the broker's answers about its source."""

    def __init__(self) -> None:
        self.handled: list[int] = []

        def comment_created(event: Event, state: State) -> list[Publish]:
            self.handled.append(event.offset)
            return []

        agent = small_agent({"comment.created": comment_created})
        self.worker = Worker(
            agent.app, agent.definition, partitions=1, batch_records_max=100, attempts_max=1,
            database_url="sqlite://", data_dir=None,
        )  # fmt: skip
        self.unit: KitUnit = self.worker.unit(0)
        units = Units(self.worker.context, 100)
        units.add(self.unit)
        self.units, self.ends, self.beginning = units, LogEnds(0, 0), 0
        self.rewound: list[TP] = []
        self.logs = SourceLogs(units, self._ends, self._rewind)

    async def _ends(self, sources: set[TP]) -> dict[TP, LogEnds]:
        return dict.fromkeys(sources, self.ends)

    async def _rewind(self, tp: TP, _was: int) -> Fetched | None:
        self.rewound.append(tp)
        return Fetched(1, self.unit.positions[tp.topic], self.beginning, [], self.ends.high)

    @property
    def open(self) -> dict[str, dict[str, object]]:
        """The alerts that are open."""
        return self.worker.context.alerts.open

    def counted(self, name: str) -> float | None:
        """A counter of the source."""
        registry = self.worker.context.metrics.registry
        return registry.get_sample_value(name, {"topic": TOPIC, "partition": "0"})


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Scene]:
    for name, value in {"BROKER": "kafka://127.0.0.1:1", "DATA_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(f"HARDPARTS_{name}", value)
    scene = Scene()
    yield scene
    scene.worker.close()


async def test_what_stands_at_offsets_that_were_read_before_the_log_went_back_is_handled(scene: Scene) -> None:
    for one in (batch(0, 3), batch(3, 0), batch(0, 2)):
        await scene.unit.finish(one)
    assert scene.handled == [0, 1, 2, 0, 1]
    assert scene.unit.positions == {TOPIC: 2}


async def test_the_position_to_commit_goes_back_at_once(scene: Scene) -> None:
    scene.units.begin_at({SOURCE: 3})
    await scene.unit.finish(batch(0, 3))
    assert scene.units.uncommitted() == {}
    await scene.unit.finish(batch(3, 0))
    assert scene.units.uncommitted() == {SOURCE: 0}


async def test_the_first_unfinished_record_is_the_new_one_while_the_unit_goes_back(scene: Scene) -> None:
    await scene.unit.finish(batch(0, 3))
    scene.unit.inbox.begin({TOPIC: 3}, {TOPIC: 0})
    await scene.unit.deliver(batch(3, 0))
    await scene.unit.deliver(batch(0, 2, at_ms=77))
    assert scene.unit.oldest_ms(TOPIC) == 77


async def test_a_log_that_went_back_is_taken_even_when_a_batch_before_it_was_lost(scene: Scene) -> None:
    scene.unit.inbox.begin({TOPIC: 3}, {TOPIC: 0})
    await scene.unit.deliver(batch(5, 0))
    await scene.unit.deliver(batch(0, 2))
    assert [(one.start, one.end) for one in scene.unit.inbox] == [(5, 0), (0, 2)]


async def test_an_end_that_goes_back_has_the_log_read_from_its_beginning_once(scene: Scene) -> None:
    scene.unit.positions[TOPIC] = 100
    for high in (1_000, 1_000, 300, 301, 302):
        scene.ends = LogEnds(high, high)
        await scene.logs.look(0.0)
    assert scene.rewound == [SOURCE]
    about = {"topic": TOPIC, "partition": 0, "position": 100, "to": 0, "was": 1_000, "end": 300}
    assert scene.open == {f"rewound/{TOPIC}/0": about}
    assert scene.counted("hardparts_rewinds_total") == 1


async def test_an_end_that_goes_back_during_a_takeover_is_noticed_after_it(scene: Scene) -> None:
    scene.ends = LogEnds(1_000, 1_000)
    await scene.logs.look(0.0)
    scene.units.forget()
    await scene.logs.look(1.0)
    scene.units.add(scene.unit)
    scene.ends = LogEnds(300, 300)
    await scene.logs.look(2.0)
    assert scene.rewound == [SOURCE]


async def test_nothing_is_erased_while_the_unit_stands_behind_the_end_of_its_log(scene: Scene) -> None:
    scene.unit.positions[TOPIC] = 5
    with EmbeddedBroker() as broker:
        async with requests.admin(broker.bootstrap) as client:
            await client.create_topics([NewTopic(TOPIC, 1, 1)])
        app = SimpleNamespace(context=SimpleNamespace(bootstrap=[broker.bootstrap], security={}))
        with pytest.raises(NotNow, match="records that were read are gone from user-events"):
            await Erasure(cast(Any, app), scene.unit, "1", dry_run=False).run(time.monotonic() + 5)


async def test_an_end_is_forgotten_when_the_fetch_has_found_out_first(scene: Scene) -> None:
    scene.ends = LogEnds(1_000, 1_000)
    await scene.logs.look(0.0)
    scene.logs.outside(SOURCE, 1_000, 0, 300)
    scene.ends = LogEnds(300, 300)
    await scene.logs.look(1.0)
    assert scene.rewound == []
    assert scene.counted("hardparts_rewinds_total") == 1


async def test_deleted_records_are_named_and_counted(scene: Scene) -> None:
    scene.logs.outside(SOURCE, 100, 400, 500)
    assert scene.open == {f"records-lost/{TOPIC}/0": {"topic": TOPIC, "partition": 0, "from": 100, "to": 399}}
    assert scene.counted("hardparts_records_lost_total") == 300
    assert scene.counted("hardparts_rewinds_total") is None


async def test_a_transaction_left_open_is_told_after_a_while_and_closed_when_it_ends(scene: Scene) -> None:
    name = f"open-transaction/{TOPIC}/0"
    for at_s, stable, high in ((0.0, 17, 217), (STANDS_MAX_S - 1, 17, 218)):
        scene.ends = LogEnds(stable, high)
        await scene.logs.look(at_s)
        assert name not in scene.open
    await scene.logs.look(STANDS_MAX_S)
    assert scene.open[name] == {"topic": TOPIC, "partition": 0, "offset": 17, "held_back": 201}
    scene.ends = LogEnds(219, 219)
    await scene.logs.look(STANDS_MAX_S + LOOK_EVERY_S)
    assert scene.open == {}


async def test_transactions_that_follow_each_other_are_no_open_one(scene: Scene) -> None:
    for number in range(20):
        scene.ends = LogEnds(number, number + 1)
        await scene.logs.look(number * LOOK_EVERY_S)
    assert scene.open == {}


async def test_a_source_that_leaves_this_worker_leaves_no_alert_here(scene: Scene) -> None:
    scene.ends = LogEnds(17, 217)
    for at_s in (0.0, STANDS_MAX_S):
        await scene.logs.look(at_s)
    assert scene.open
    scene.units.forget()
    await scene.logs.look(STANDS_MAX_S + 1)
    assert scene.open == {}


async def test_an_alert_about_an_event_closes_by_itself_and_at_the_end() -> None:
    alerts, metrics = Alerts(), Metrics()
    records_lost(alerts, metrics, SOURCE, 100, 400)
    [name] = alerts.open
    alerts.close_events(0.0)
    assert list(alerts.open) == [name]
    alerts.close_events(FAR + EVENT_OPEN_S)
    assert alerts.open == {}
    records_lost(alerts, metrics, SOURCE, 500, 600)
    await alerts.drain()
    assert alerts.open == {}
