"""Copies of a unit's state: each is judged by itself, and one that is followed is as fresh as its owner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pipeline.broker import EmbeddedBroker
from pipeline.core.origin import ORIGIN, Origin
from pipeline.core.turn import TURN, Turn
from pipeline.runtime.context import Context
from pipeline.runtime.ownership import Owner
from pipeline.runtime.recovery import UNBOUNDED, ChangelogTruncated, Restoring, restore
from pipeline.runtime.standby import Standbys
from pipeline.runtime.store import FENCE, OWNER, Store
from tests.behaviour.small_agent import small_agent
from tests.kafka.waiting import until

ROW = (b"key", b"value")


@pytest.fixture
async def broker() -> AsyncIterator[EmbeddedBroker]:
    """With a changelog of two partitions, a row and a fence in each."""
    with EmbeddedBroker() as broker:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("changelog", 2, 1)])
        await admin.close()
        for partition in range(2):
            await append(broker, partition, [ROW, (OWNER, b"first")])
        yield broker


async def append(broker: EmbeddedBroker, partition: int, rows: list[tuple[bytes, bytes | None]]) -> int:
    """Rows in a record batch of their own; the offset of the last one."""
    owner = await Owner.take([broker.bootstrap], f"app/{partition}", {})
    end = await owner.append_rows("changelog", partition, [rows])
    await owner.abandon()
    return end - 1


async def restored(broker: EmbeddedBroker, store: Store) -> Restoring:
    """Partition 0, up to a fence that is written now."""
    unit = Restoring("agent/0", "changelog", 0, store, await append(broker, 0, [(OWNER, b"ours")]))
    await restore([broker.bootstrap], {}, [unit], None)
    return unit


def set_aside(directory: Path) -> list[Path]:
    """What was kept of partition 0's copies."""
    return list(directory.glob("0.set-aside-*"))


def context_of(broker: EmbeddedBroker, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    for name, value in {"BROKER": broker.url, "DATA_DIR": str(directory)}.items():
        monkeypatch.setenv(f"HARDPARTS_{name}", value)
    return small_agent({"comment.created": lambda event: None}).app.context


async def test_a_copy_past_the_end_of_its_changelog_is_made_anew_and_the_others_are_kept_up(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(broker, tmp_path, monkeypatch)
    stores = [Store(tmp_path / "0"), Store(tmp_path / "1")]
    stores[0].apply([(b"ghost", b"of another log")], 100)
    copies = [Restoring(f"agent/{n}", "changelog", n, store, UNBOUNDED) for n, store in enumerate(stores)]
    standbys = Standbys(context, None)
    standbys.follow(copies)
    await until(lambda: all(copy.store.offset == 2 for copy in copies), 30, "both are up to date")
    assert [copy.store.get(ROW[0]) for copy in copies] == [ROW[1]] * 2
    assert copies[0].store.get(b"ghost") is None
    assert len(set_aside(tmp_path)) == 1
    await standbys.stop()


async def test_a_copy_at_the_end_of_its_changelog_stays_fresh_though_nothing_comes(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.runtime.recovery.TOUCH_EVERY_S", 0.0)
    context, store = context_of(broker, tmp_path, monkeypatch), Store(tmp_path / "0")
    standbys = Standbys(context, None)
    standbys.follow([Restoring("agent/0", "changelog", 0, store, UNBOUNDED)])
    await until(lambda: store.offset == 2, 30, "it is up to date")
    written_at_s = store.written_at_s
    await until(lambda: store.written_at_s > written_at_s + 1, 30, "it is as fresh as now")
    await standbys.stop()


async def test_a_copy_goes_on_where_it_stands(broker: EmbeddedBroker, tmp_path: Path) -> None:
    store = (await restored(broker, Store(tmp_path / "0"))).store
    await append(broker, 0, [(b"other", b"1")])
    unit = await restored(broker, store)
    assert unit.store is store, "nothing had to be rebuilt"
    assert (store.get(b"other"), unit.owner, unit.lost) == (b"1", "ours", "")
    store.close()


async def test_a_copy_whose_last_row_is_another_in_the_changelog_is_set_aside(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    store = Store(tmp_path / "0")
    store.apply([ROW, (OWNER, b"somebody else")], 2)
    unit = await restored(broker, store)
    assert "doesn't have what stands at 1" in unit.lost
    assert (unit.store.get(ROW[0]), unit.store.owner) == (ROW[1], "ours")
    unit.store.close()


async def test_rows_of_an_owner_that_a_copy_never_saw_show_that_it_is_not_a_copy_of_this(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    store = (await restored(broker, Store(tmp_path / "0"))).store
    last = await append(broker, 0, [Turn(1, "whose fence stood where the copy looks no more", 0, {}, 0).row()])
    unit = await restored(broker, store)
    assert f"an owner that it doesn't know has written behind it, at {last}" in unit.lost
    unit.store.close()


async def test_a_copy_of_another_changelog_is_set_aside(broker: EmbeddedBroker, tmp_path: Path) -> None:
    origin = Origin.new("a cluster", first=False)
    at = await append(broker, 0, [origin.row()])
    store = (await restored(broker, Store(tmp_path / "0"))).store
    assert store.origin_at == at
    store.apply([Origin.new("a cluster", first=False).row()], store.offset or 0)
    unit = await restored(broker, store)
    assert unit.store.get(ORIGIN) == origin.row()[1]
    assert len(set_aside(tmp_path)) == 1
    unit.store.close()


async def test_a_row_that_was_written_behind_rows_which_are_gone_is_never_built_upon(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    await append(broker, 0, [Turn(1, "first", 0, {}, place=1000).row()])
    store = Store(tmp_path / "0")
    with pytest.raises(ChangelogTruncated, match="has lost acknowledged rows in front of offset 2"):
        await restored(broker, store)
    store.close()


async def test_what_an_older_version_wrote_behind_a_turn_makes_it_out_of_date(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    """It writes a fence of another name and rows, and says nothing of where they end."""
    store = (await restored(broker, Store(tmp_path / "0"))).store
    await append(broker, 0, [Turn(1, "ours", 0, {"source": 5}, 0).row()])
    store = (await restored(broker, store)).store
    assert Turn.read(store.get(TURN)).positions == {"source": 5}
    await append(broker, 0, [(FENCE, b"of the older"), (b"by the older", b"1")])
    store = (await restored(broker, store)).store
    assert (Turn.read(store.get(TURN)).number, store.get(b"by the older")) == (0, b"1")
    store.close()


async def test_a_copy_that_an_older_version_has_kept_says_nothing_of_where_it_stands(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    """It copies every row but fences, and doesn't say that it has."""
    await append(broker, 0, [Turn(1, "first", 0, {"source": 5}, 0).row()])
    store = (await restored(broker, Store(tmp_path / "0"))).store
    last = await append(broker, 0, [(FENCE, b"of the older"), (b"by the older", b"1")])
    store._db.put(b"by the older", b"1")
    store._db.put(b"_offset", b"%d %.3f" % (last + 1, store.written_at_s))
    store.close()
    for _ in range(2):  # also when it has been written to since
        store = Store(tmp_path / "0")
        assert Turn.read(store.get(TURN)).number == 0
        store.touch()
        store.close()
    store = Store(tmp_path / "0")
    unit = await restored(broker, store)
    assert unit.store is store
    store.close()
