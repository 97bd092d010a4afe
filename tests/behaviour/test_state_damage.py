"""State on a disk that fails: what is damaged is rebuilt in place, what is only out of reach is left alone."""

import asyncio
import gc
import json
import os
import resource
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from pipeline.broker import EmbeddedBroker
from pipeline.runtime.ownership import Owner
from pipeline.runtime.recovery import STATE_AGE_MAX_S, TOUCH_EVERY_S, keep_fresh, unfit
from pipeline.runtime.store import Store, StoreDamaged, StoreUnusable, open_or_set_aside, renewed
from tests.behaviour.place import Place

FILLERS = 5_000
ROW = b"comments\x001"


def fill(path: Path) -> Path:
    """Rows before and after the real ones, so that these have blocks of their own; the file that holds them all."""
    store = Store(path)
    rows = [(b"%s%05d" % (letter, number), os.urandom(100)) for letter in (b"b", b"z") for number in range(FILLERS)]
    real = [] if store.offset is not None else [(ROW, b"7")]
    store.apply([*rows, *real], store.offset or 5)
    store._db.flush()
    store._db.compact_range(None, None)
    store.close()
    (file,) = path.glob("*.sst")
    return file


def flip(file: Path, first: float, last: float) -> None:
    """Invert a byte in each kilobyte of this part of a file."""
    content = bytearray(file.read_bytes())
    for at in range(int(len(content) * first), int(len(content) * last), 1000):
        content[at] ^= 0xFF
    file.write_bytes(content)


def first_block(file: Path) -> None:
    flip(file, 0.0001, 0.001)


def shortened(file: Path) -> None:
    os.truncate(file, 1000)


def no_manifest(file: Path) -> None:
    for manifest in file.parent.glob("MANIFEST-*"):
        manifest.unlink()


@pytest.mark.parametrize("damage", [first_block, shortened, Path.unlink, no_manifest])
def test_damage_that_shows_when_state_is_opened_sets_it_aside(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "0"
    damage(fill(path))
    store, reason = open_or_set_aside(path)
    assert reason is not None
    assert store.offset is None
    store.close()
    assert [entry.name.partition("-")[0] for entry in sorted(tmp_path.iterdir())] == ["0", "0.set"]


def test_the_first_and_the_last_two_of_many_damaged_ones_stay(tmp_path: Path) -> None:
    path, seen = tmp_path / "0", list[str]()
    for _ in range(5):
        first_block(fill(path))
        open_or_set_aside(path)[0].close()
        shutil.rmtree(path)
        seen += [entry.name for entry in tmp_path.iterdir() if entry.name not in seen]
    assert len(seen) == 5
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [seen[0], *seen[3:]]


def test_damage_inside_shows_as_such_when_it_is_read(tmp_path: Path) -> None:
    flip(fill(tmp_path / "0"), 0.2, 0.8)
    store, reason = open_or_set_aside(tmp_path / "0")
    assert reason is None
    with pytest.raises(StoreDamaged):
        store.get(ROW)
    with pytest.raises(StoreDamaged):
        store.get_many([b"b00001", ROW])
    store.close()


def test_state_that_cannot_be_opened_for_want_of_files_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "0"
    fill(path)
    spare = os.dup(0)
    os.close(spare)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, hard))
    try:
        with pytest.raises(StoreUnusable, match="Too many open files") as refused:
            open_or_set_aside(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert str(path) in str(refused.value)
    store, reason = open_or_set_aside(path)
    assert (reason, store.get(ROW)) == (None, b"7")
    with pytest.raises(StoreUnusable, match=r"0/LOCK"):
        open_or_set_aside(path)
    store.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["0"]


async def test_a_worker_rebuilds_damaged_state_in_place_and_goes_on(tmp_path: Path) -> None:
    with Place(tmp_path, partitions=1) as place:
        path = Path(place.cli.environment["HARDPARTS_DATA_DIR"]) / place.app_id / "one" / "tables" / "user-events" / "0"

        async def comments(number: int, total: int) -> None:
            events = [
                {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": 1, "msg": "x"}}
                for _ in range(number)
            ]
            await place.send("user-events", [(b"1", json.dumps(event).encode()) for event in events], 0)
            await place.committed_to(total, "user-events", 0)

        worker = await asyncio.to_thread(place.worker)
        await comments(20, 20)
        assert worker.stop() == 0
        flip(fill(path), 0.2, 0.8)
        worker = await asyncio.to_thread(place.worker)
        await comments(20, 40)
        assert worker.stop() == 0
        counts = [json.loads(record.value or b"")["data"]["count"] for record in (await place.log("comment-counts"))[0]]
        assert counts == list(range(1, 41))
        assert (await place.log(f"{place.app_id}.errors"))[0] == [], "the events aren't at fault"
        assert [entry.name.partition("-")[0] for entry in sorted(path.parent.iterdir())] == ["0", "0.set"]
        store = Store(path)
        assert store.get(ROW) is not None
        store.close()


def test_state_that_is_only_old_is_deleted_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        store = Store(tmp_path / "0")
        store.apply([(ROW, b"7")], 5)
        with monkeypatch.context() as later:
            now_s = time.time()
            later.setattr("pipeline.runtime.recovery.time.time", lambda: now_s + STATE_AGE_MAX_S + 60)  # noqa: B023
            wrong = unfit(store, 0, 9)
        assert wrong is not None
        assert not wrong.keep
        store = renewed(store, None, keep=wrong.keep)
        assert store.get(ROW) is None
        store.close()
        assert [entry.name for entry in tmp_path.iterdir()] == ["0"]


def test_an_owned_unit_without_records_stays_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, now_s = Store(tmp_path / "0"), time.time()
    store.apply([(ROW, b"7")], 5)
    for later_s, written_at_s in ((TOUCH_EVERY_S - 60, now_s), (TOUCH_EVERY_S + 60, now_s + TOUCH_EVERY_S + 60)):
        monkeypatch.setattr("pipeline.runtime.recovery.time.time", lambda: now_s + later_s)  # noqa: B023
        keep_fresh([store])
        assert store.written_at_s == pytest.approx(written_at_s, abs=30)
    store.close()
    store = Store(tmp_path / "0")
    assert (store.offset, store.get(ROW)) == (5, b"7")
    assert store.written_at_s == pytest.approx(now_s + TOUCH_EVERY_S + 60, abs=30)
    store.close()


async def test_an_owner_says_which_partitions_it_waits_for() -> None:
    with EmbeddedBroker() as broker:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("rows", 1, 1)])
        await admin.close()
        owner = await Owner.take([broker.bootstrap], "small/0", {})
        await owner.append_rows("rows", 0, [[(ROW, b"7")]])
        assert (owner.waits_for, owner.waiting_since) == ([], None)
        broker.stop()
        sending = asyncio.create_task(owner.append_rows("rows", 0, [[(ROW, b"8")]]))
        while owner.waiting_since is None:  # noqa: ASYNC110 - until it is on its way
            await asyncio.sleep(0)
        assert owner.waits_for == ["rows[0]"]
        sending.cancel()
        await asyncio.wait([sending])
        assert owner.waits_for == []
        await owner.abandon()


async def test_an_attempt_that_fails_leaves_nothing_open() -> None:
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: said.append(str(about["message"])))
    with EmbeddedBroker() as broker:
        bootstrap = broker.bootstrap
    with pytest.raises(KafkaError):
        await Owner.take([bootstrap], "small/0", {})
    gc.collect()
    assert said == []


def test_a_scan_that_meets_a_damaged_block_says_so_instead_of_ending_early(tmp_path: Path) -> None:
    """What expires or is erased would be left behind in silence."""
    store = Store(tmp_path / "0")
    rows = {b"row%06d" % number: os.urandom(100) for number in range(20_000)}
    store.apply(rows.items(), 1)
    store._db.flush()
    store.close()
    (table,) = (tmp_path / "0").glob("*.sst")
    content = bytearray(table.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 5_000] = bytes(5_000)
    table.write_bytes(content)
    damaged = Store(tmp_path / "0")
    with pytest.raises(StoreDamaged):
        assert len(list(damaged.scan(b"row"))) == len(rows)
    damaged.close()
