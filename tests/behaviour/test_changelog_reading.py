"""Reading changelogs ends as it should, whatever the client does; and a copy that can't be kept stops no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pipeline.broker import EmbeddedBroker
from pipeline.core.state import Row
from pipeline.runtime.ownership import Owner
from pipeline.runtime.recovery import UNBOUNDED, RecoveryStalled, Restoring, reading, restore
from pipeline.runtime.standby import Standbys
from pipeline.runtime.store import FENCE, Store, StoreUnusable
from tests.behaviour.small_agent import small_agent
from tests.kafka.waiting import until

ROW = [(b"key", b"value")]


@pytest.fixture
async def broker() -> AsyncIterator[EmbeddedBroker]:
    """With a changelog of two partitions, a row and a fence in each."""
    with EmbeddedBroker() as broker:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("changelog", 2, 1)])
        await admin.close()
        for partition in range(2):
            owner = await Owner.take([broker.bootstrap], f"app/{partition}", {})
            await owner.append_rows("changelog", partition, [ROW, [(FENCE, b"1")]])
            await owner.abandon()
        yield broker


async def test_a_consumer_whose_stop_is_cancelled_inside_does_not_end_who_reads(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does aiokafka's while a fetch waits to be tried again."""
    stop = AIOKafkaConsumer.stop
    stopped = []

    async def cancelled_inside(self: AIOKafkaConsumer) -> None:
        await stop(self)
        stopped.append(self)
        raise asyncio.CancelledError

    monkeypatch.setattr(AIOKafkaConsumer, "stop", cancelled_inside)
    store = Store(tmp_path / "0")
    await restore([broker.bootstrap], {}, [Restoring("agent/0", "changelog", 0, store, 1)], None)
    assert store.get(b"key") == b"value"
    assert stopped
    store.close()


async def test_a_client_that_has_stopped_fetching_is_replaced(broker: EmbeddedBroker, tmp_path: Path) -> None:
    """aiokafka only logs why its background task has ended; a standby would wait for it for ever."""
    store = Store(tmp_path / "0")
    copy = Restoring("agent/0", "changelog", 0, store, UNBOUNDED)
    async with reading([broker.bootstrap], {}, [copy], None) as changelogs:
        await changelogs.begin()
        fetching = cast(Any, changelogs)._consumer._fetcher._fetch_task
        fetching.cancel()
        await asyncio.wait([fetching])
        with pytest.raises(RecoveryStalled):
            await changelogs.apply_next([copy.tp])
    store.close()


class Full(Store):
    """On a disk that takes nothing."""

    def apply(self, rows: Iterable[Row], offset: int, origin_at: int | None = None) -> None:
        raise StoreUnusable(f"{self.path}: no space")


async def test_a_copy_that_can_not_be_kept_is_left_out_and_the_others_are_kept(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.runtime.standby.AGAIN_AFTER_S", 0.05)
    for name, value in {"BROKER": broker.url, "DATA_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(f"HARDPARTS_{name}", value)
    context = small_agent({"comment.created": lambda event: None}).app.context
    bad, good = Full(tmp_path / "0"), Store(tmp_path / "1")
    standbys = Standbys(context, None)
    standbys.follow([Restoring(f"agent/{n}", "changelog", n, store, UNBOUNDED) for n, store in enumerate([bad, good])])

    def behind(partition: str) -> float | None:
        labels = {"agent": "agent", "partition": partition}
        return context.metrics.registry.get_sample_value("hardparts_standby_behind_records", labels)

    await until(lambda: behind("1") == 0, 60, "the good one is up to date")
    assert good.get(b"key") == b"value"
    assert behind("0") is None, "nothing is said of what is not kept"
    await standbys.stop()
    assert behind("1") is None
    again = Store(tmp_path / "1")
    assert again.offset == 2
    again.close()
