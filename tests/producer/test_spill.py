"""The spill: in order across an outage and a restart, one process a directory; damage is told, the rest delivered."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.producer import Limits, ReliableProducer, SpillDamaged, SpillInUse, SpillUnusable, Undeliverable
from pipeline.producer.arguments import size_of
from pipeline.producer.codec import RowBroken, decode, encode
from pipeline.producer.link import Sent
from pipeline.producer.message import Letter, Message
from pipeline.producer.probe import probe
from pipeline.producer.rows import LaneId
from pipeline.producer.spill import Spill
from tests.kafka.waiting import until
from tests.producer.scripted import POISON, Cluster, ScriptedLink

NUMBERS = [b"%d" % number for number in range(1, 251)]


def producer(cluster: Cluster, spill: Path, **options: Any) -> ReliableProducer:
    options = {"limits": Limits(memory_messages=100, disk_free_bytes_min=0), "linger_s": 0} | options
    return ReliableProducer({}, link=ScriptedLink(cluster), spill=spill, **options)


@pytest.mark.parametrize("durable", [True, False])
async def test_a_limit_of_100_and_250_messages_survive_an_outage_and_a_restart_in_order(
    tmp_path: Path, durable: bool
) -> None:
    cluster = Cluster({"letters": 1})
    cluster.go_away()
    first = producer(cluster, tmp_path, durable=durable)
    await first.start()
    for number in NUMBERS:
        delivery = first.produce("letters", 0, number)
        if durable:
            await delivery.accepted()
    load = first.load()
    assert load.messages == 250
    assert load.memory_messages <= 100
    assert load.disk_messages >= 150
    assert await first.stop(timeout_s=0) == 250
    cluster.come_back()
    async with producer(cluster, tmp_path, durable=durable) as second:
        assert second.load().messages == 250
        await second.produce("letters", 0, b"251")
    assert cluster.logs["letters", 0] == [*NUMBERS, b"251"]
    with Spilled(tmp_path) as spill:
        assert list(spill.scan()) == [], "nothing is left on the disk"


async def test_a_stop_that_is_cancelled_ends_all_the_same_and_loses_nothing(tmp_path: Path) -> None:
    cluster = Cluster({"letters": 1})
    cluster.go_away(hangs=True)
    first = producer(cluster, tmp_path, durable=False)
    await first.start()
    for number in NUMBERS[:10]:
        first.produce("letters", 0, number)
    stopping = asyncio.create_task(first.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    with pytest.raises(SpillInUse):
        await producer(cluster, tmp_path).start()
    assert await first.stop(timeout_s=0) == 10  # finishes what the first began, and doesn't wait for Kafka
    cluster.come_back()
    async with producer(cluster, tmp_path) as second:
        await second.drained()
    assert cluster.logs["letters", 0] == NUMBERS[:10]


def test_a_loop_that_ends_in_a_stop_leaves_everything_on_the_disk(tmp_path: Path) -> None:
    cluster = Cluster({"letters": 1})
    cluster.go_away(hangs=True)

    async def end_in_a_stop() -> None:
        sending = producer(cluster, tmp_path, durable=False)
        await sending.start()
        for number in NUMBERS[:10]:
            sending.produce("letters", 0, number)
        sending.ending = asyncio.create_task(sending.stop())  # type: ignore[attr-defined]  # so that it isn't collected
        await asyncio.sleep(0)

    async def left() -> int:
        async with producer(cluster, tmp_path) as sending:
            return await sending.stop(timeout_s=0)

    asyncio.run(end_in_a_stop())
    assert asyncio.run(left()) == 10


class SlowToEnd(ScriptedLink):
    """Its requests, and its closing, need a while to end."""

    def __init__(self, cluster: Cluster, reached: Callable[[str], None]) -> None:
        super().__init__(cluster)
        self.reached = reached

    async def send(self, topic: str, partition: int, messages: Sequence[Letter], at_ms: int | None = None) -> Sent:
        try:
            return await super().send(topic, partition, messages, at_ms)
        except asyncio.CancelledError:
            self.reached("a request")
            await asyncio.sleep(0.3)
            raise

    async def close(self) -> None:
        self.reached("closing")
        await asyncio.sleep(0.3)
        self.reached("the disk")
        await super().close()


@pytest.mark.parametrize("where", ["a request", "closing", "the disk"])
def test_a_loop_that_ends_while_a_stop_waits_leaves_everything_on_the_disk_and_gives_the_directory_up(
    tmp_path: Path, where: str
) -> None:
    cluster = Cluster({"letters": 1})
    cluster.go_away(hangs=True)
    let_go = threading.Event()

    async def end_in_a_stop() -> None:
        there = asyncio.Event()
        link = SlowToEnd(cluster, lambda reached: there.set() if reached == where else None)
        sending = ReliableProducer({}, link=link, spill=tmp_path, linger_s=0)
        await sending.start()
        for number in NUMBERS[:10]:
            sending.produce("letters", 0, number)
        assert sending._flushing is not None
        sending._flushing._thread.submit(let_go.wait)
        await asyncio.sleep(0)  # the lane's request begins
        sending.ending = asyncio.create_task(sending.stop(0))  # type: ignore[attr-defined]  # so that it isn't collected
        await there.wait()
        asyncio.get_running_loop().call_later(0.1, let_go.set)

    async def left() -> int:
        async with producer(cluster, tmp_path) as sending:
            return await sending.stop(timeout_s=0)

    asyncio.run(end_in_a_stop())
    assert asyncio.run(left()) == 10


async def test_a_thousand_callers_in_an_outage_wait_for_nothing_but_the_disk_and_share_its_flushes(
    tmp_path: Path,
) -> None:
    cluster = Cluster({"letters": 1})
    cluster.go_away(hangs=True)
    limits = Limits(memory_messages=2_000, disk_free_bytes_min=0)
    async with producer(cluster, tmp_path, durable=True, limits=limits) as sending:
        assert sending._spill is not None
        flushes = 0
        sync = sending._spill.sync

        def counted() -> None:
            nonlocal flushes
            flushes += 1
            sync()

        sending._spill.sync = counted  # type: ignore[method-assign]

        async def call(number: int) -> None:
            for part in range(3):
                await sending.produce("letters", 0, b"%d.%d" % (number, part)).accepted()

        await asyncio.wait_for(asyncio.gather(*(call(number) for number in range(1_000))), 60)
        assert sending.load().messages == 3_000
        assert flushes < 100
        cluster.come_back()
        await asyncio.wait_for(sending.drained(), 60)
    log = [value.split(b".") for value in cluster.logs["letters", 0] if value]
    assert len(log) == 3_000
    for number in range(1_000):
        assert [part for caller, part in log if caller == b"%d" % number] == [b"0", b"1", b"2"]


async def test_a_caller_that_keeps_its_delivery_does_not_keep_in_memory_what_went_to_the_disk(tmp_path: Path) -> None:
    cluster = Cluster({"letters": 1})
    cluster.go_away(hangs=True)
    values = [b"%d" % number + os.urandom(100) for number in range(250)]

    def references() -> int:
        return sum(sys.getrefcount(value) for value in values)

    before = references()
    async with producer(cluster, tmp_path) as sending:
        deliveries = [sending.produce("letters", 0, value, key=b"k") for value in values]
        assert sending.load().disk_messages >= 150
        assert references() - before == sending.load().memory_messages
        cluster.come_back()
        places = await asyncio.wait_for(asyncio.gather(*deliveries), 60)
    assert [place.offset for place in places] == list(range(250))
    assert cluster.logs["letters", 0] == values


async def test_a_topics_count_is_kept_so_that_a_key_stays_in_its_partition_over_a_restart_in_an_outage(
    tmp_path: Path,
) -> None:
    cluster = Cluster({"letters": 2})
    async with producer(cluster, tmp_path, durable=True) as first:
        place = await first.produce("letters", None, b"0", key=b"k")
        cluster.go_away()
        first.produce("letters", None, b"1", key=b"k")
        await first.stop(timeout_s=0)
    second = producer(cluster, tmp_path, durable=True)
    await second.start()
    assert second.partitions() == {"letters": 2}
    delivery = second.produce("letters", None, b"2", key=b"k")
    assert list(second._buffer.lanes) == [LaneId("letters", place.partition)]
    cluster.come_back()
    assert await asyncio.wait_for(delivery, 60) == ("letters", place.partition, 2)
    await second.stop()


async def test_headers_keys_tombstones_and_times_come_back_from_the_disk(tmp_path: Path) -> None:
    messages = [
        Message(key, value, headers, 1_700_000_000_000, size_of(key, value, headers))
        for key in (None, b"", b"key")
        for value in (None, b"", b"value" * 1000)
        for headers in ([], [("ü", b""), ("b", b"\0\xff")])
    ]
    row = encode(messages)
    fields = [(m.key, m.value, m.headers, m.timestamp_ms, m.size) for m in decode(row)]
    assert fields == [(m.key, m.value, m.headers, m.timestamp_ms, m.size) for m in messages]
    for cut in range(1, 60):
        with pytest.raises(RowBroken):
            decode(row[:-cut])


def test_a_directory_has_one_process_and_the_other_is_told_which(tmp_path: Path) -> None:
    with Spilled(tmp_path), pytest.raises(SpillInUse, match=f"process {os.getpid()}"):
        Spill(tmp_path, 0)
    code = f"from pathlib import Path; from pipeline.producer.spill import Spill; Spill(Path({str(tmp_path)!r}), 0)"
    with Spilled(tmp_path):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert f"SpillInUse: spill directory {tmp_path} belongs to process {os.getpid()}" in other.stderr
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("kind", ["log", "sst"])
async def test_damage_is_noticed_and_told_and_the_rest_is_delivered(tmp_path: Path, kind: str) -> None:
    cluster = Cluster({"letters": 1})
    cluster.go_away()
    first = producer(cluster, tmp_path, durable=True)
    await first.start()
    values = [b"%04d" % number + os.urandom(20_000) for number in range(100)]
    for value in values:
        await first.produce("letters", 0, value).accepted()
    assert first._spill is not None
    if kind == "sst":
        first._spill._db.flush()
    left = tmp_path / "left"
    shutil.copytree(tmp_path / "messages", left / "messages")  # as a kill leaves it: a stop empties the log
    await first.stop(timeout_s=0)
    file = max((left / "messages").glob(f"*.{kind}"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    assert len(content) > 100 * 20_000
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    cluster.come_back()
    async with producer(cluster, left, durable=True) as second:
        await asyncio.wait_for(second.drained(), 60)
        lost = second._buffer.lost_messages
    assert 0 < lost < 10
    log = cluster.logs["letters", 0]
    assert len(log) == 100 - lost
    assert log == [value for value in values if value in set(log)]


async def test_who_waits_for_a_message_that_is_damaged_is_told(tmp_path: Path) -> None:
    cluster = Cluster({"letters": 1})
    cluster.go_away(hangs=True)
    async with producer(cluster, tmp_path) as sending:
        deliveries = [sending.produce("letters", 0, number) for number in NUMBERS]
        assert sending._spill is not None
        rows = [row for _, row in sending._spill.scan()]
        sending._spill.remove([(LaneId("letters", 0), rows[0])])
        cluster.come_back()
        results = await asyncio.wait_for(asyncio.gather(*deliveries, return_exceptions=True), 60)
    damaged = [number for number, result in zip(NUMBERS, results, strict=True) if isinstance(result, SpillDamaged)]
    assert len(damaged) == rows[0].messages
    assert cluster.logs["letters", 0] == [number for number in NUMBERS if number not in damaged]


async def test_a_refused_message_is_kept_told_and_its_neighbours_are_delivered(tmp_path: Path) -> None:
    cluster = Cluster({"letters": 1})
    cluster.go_away()
    told: list[bytes | None] = []

    def tell(undelivered: Any) -> None:
        told.append(undelivered.value)
        raise RuntimeError("the handler's own bug")

    async with producer(cluster, tmp_path, on_undelivered=tell) as sending:
        good = [sending.produce("letters", 0, b"%d" % number) for number in range(50)]
        bad = sending.produce("letters", 0, POISON + b"!", key=b"k", headers=[("h", b"1")])
        good += [sending.produce("letters", 0, b"%d" % number) for number in range(50, 99)]
        cluster.come_back()
        await asyncio.wait_for(asyncio.gather(*good), 60)
        with pytest.raises(Exception, match="MESSAGE_TOO_LARGE") as error:
            await bad
        assert (error.value.name, error.value.code) == ("message_too_large", 10)  # type: ignore[attr-defined]
    assert cluster.logs["letters", 0] == [b"%d" % number for number in range(99)]
    assert told == [POISON + b"!"]
    async with producer(cluster, tmp_path) as again:
        (kept,) = again.undelivered()
        assert (kept.topic, kept.partition, kept.key, kept.value) == ("letters", 0, b"k", POISON + b"!")
        assert (kept.error, kept.code, kept.headers) == ("message_too_large", 10, [("h", b"1")])
        again.discard(kept.id)
        assert list(again.undelivered()) == []


async def test_an_exception_of_our_own_sender_loses_nothing_and_it_goes_on(tmp_path: Path) -> None:
    cluster = Cluster({"letters": 1})
    cluster.errors = [ZeroDivisionError("a bug"), AssertionError("another")]  # type: ignore[list-item]
    async with producer(cluster, tmp_path, durable=True) as sending:
        deliveries = [sending.produce("letters", 0, number) for number in NUMBERS[:50]]
        await asyncio.wait_for(asyncio.gather(*deliveries), 60)
    assert cluster.errors == []
    assert cluster.logs["letters", 0] == NUMBERS[:50]


def test_a_missing_directory_is_named_with_its_errno_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(SpillUnusable, match=r"it doesn't exist: No such file or directory \(errno 2\)") as error:
        Spill(tmp_path / "none", 0)
    assert error.value.errno == 2
    assert str(tmp_path / "none") in str(error.value)
    assert not (tmp_path / "none").exists()


def test_a_disk_without_room_for_the_reserve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpillUnusable, match="reserve") as error:
        probe(tmp_path, free_bytes_min=1 << 60)
    assert error.value.errno == 28


async def test_a_directory_that_goes_bad_later_is_told_and_what_comes_meanwhile_is_kept(tmp_path: Path) -> None:
    cluster = Cluster({"letters": 1})
    cluster.go_away()
    spill = tmp_path / "spill"
    spill.mkdir()
    told: list[SpillUnusable | None] = []
    async with producer(cluster, spill, durable=True, check_s=0.05, on_trouble=told.append) as sending:
        await sending.produce("letters", 0, b"1").accepted()
        spill.rename(tmp_path / "elsewhere")
        await until(sending.trouble, 60, "the test of the directory failed")
        assert str(spill) in str(sending.trouble())
        meanwhile = sending.produce("letters", 0, b"2")
        assert not meanwhile.is_accepted
        (tmp_path / "elsewhere").rename(spill)
        await asyncio.wait_for(meanwhile.accepted(), 60)
        assert sending.trouble() is None
        assert [error is None for error in told] == [False, True]
        cluster.come_back()
    assert cluster.logs["letters", 0] == [b"1", b"2"]


async def test_with_a_bad_disk_the_brokers_ack_is_what_accepts(tmp_path: Path) -> None:
    cluster = Cluster({"letters": 1})
    spill = tmp_path / "spill"
    spill.mkdir()
    async with producer(cluster, spill, durable=True, check_s=0.05) as sending:
        spill.rename(tmp_path / "elsewhere")
        await until(sending.trouble, 60, "the test of the directory failed")
        await asyncio.wait_for(sending.produce("letters", 0, b"1").accepted(), 60)
        assert cluster.logs["letters", 0] == [b"1"]
        (tmp_path / "elsewhere").rename(spill)


class Spilled:
    """A Spill for the time of a `with`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> Spill:
        self._spill = Spill(self._directory, 0)
        return self._spill

    def __exit__(self, *_: object) -> None:
        self._spill.close()


def test_flushes_side_by_side_open_a_log_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is refused is flushed on the event loop, while a thread may flush those that are accepted."""
    lane, opened, other_is_done = LaneId("letters", 0), threading.Event(), threading.Event()
    open_, me = os.open, threading.current_thread()

    def slow(path: Any, *arguments: Any) -> int:
        file = open_(path, *arguments)
        if str(path).endswith(".log") and threading.current_thread() is not me:
            opened.set()
            other_is_done.wait(1)  # which it only is if it didn't have to wait
        return file

    with Spilled(tmp_path) as spill:
        spill.write([(lane, 0, [Message(None, b"1", [], 1, 1)])])
        monkeypatch.setattr(os, "open", slow)
        flush = threading.Thread(target=spill.sync)
        flush.start()
        assert opened.wait(60)
        spill.keep_undelivered([(b"id", b"row")])
        other_is_done.set()
        flush.join()
        held = [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.exists()]
        ours = [path for path in held if path.startswith(str(tmp_path)) and path.endswith(".log")]
        assert len(ours) == len(set(ours)) + 1, "RocksDB's own, and one of ours"


async def test_a_refused_message_that_is_damaged_is_told_and_the_others_are_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster({"letters": 1})
    async with producer(cluster, tmp_path) as first:
        with pytest.raises(Undeliverable):
            await first.produce("letters", 0, POISON)
    with Spilled(tmp_path) as spill:
        spill.keep_undelivered(
            [(b"a", b"{"), (b"b", b"{}\n"), (b"c", b'{"x": 1}\n' + encode([Message(b"", b"", [], 1, 1)]))]
        )
    async with producer(cluster, tmp_path) as second:
        assert [refused.value for refused in second.undelivered()] == [POISON]
    assert caplog.text.count("can't be read") == 3
