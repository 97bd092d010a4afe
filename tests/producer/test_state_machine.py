"""Any interleaving of producing, outages, lost acks, kills and disks that fail keeps what was accepted, in order.

The buffer, the spill and its files are the real ones; the cluster is scripted. A kill leaves the files as they are at
that moment: the next producer gets a copy of them.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipeline.core.backoff import Backoff
from pipeline.core.routing import partition_of
from pipeline.producer import BufferFull, Limits, ReliableProducer, SpillUnusable
from pipeline.producer.message import Delivery
from tests.producer.scripted import POISON, Cluster, ScriptedLink

LIMITS = Limits(memory_messages=12, memory_bytes=1 << 20, disk_messages=60, disk_free_bytes_min=0)
TOPIC, PARTITIONS = "letters", 2
DEADLINE_S = 60.0
DISK = ("_write", "room", "sync", "check")
"""What fails with the disk: all of it, or the last two when it writes and can't flush."""


class Taken:
    """A message that `produce` took. certain: it must be on the topic, or reported. killed: its producer was."""

    def __init__(self, value: bytes, delivery: Delivery) -> None:
        self.value, self.delivery = value, delivery
        self.certain = self.killed = False


class Custody(RuleBasedStateMachine):
    DURABLE = True

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.home = Path(tempfile.mkdtemp(prefix="hardparts-spill-"))
        self.directories = 0
        self.cluster = self.run(self.new_cluster())
        self.taken: dict[int | str, list[Taken]] = {0: [], 1: [], "a": [], "b": []}
        self.number = 0
        self.disk_fails = False
        self.spill: Path = self.fresh()
        self.producer = self.start()

    async def new_cluster(self) -> Cluster:
        return Cluster({TOPIC: PARTITIONS})

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, DEADLINE_S))

    def fresh(self) -> Path:
        self.directories += 1
        path = self.home / str(self.directories)
        path.mkdir()
        return path

    def start(self) -> ReliableProducer:
        producer = ReliableProducer(
            {}, spill=self.spill, durable=self.DURABLE, limits=LIMITS, linger_s=0, check_s=1000,
            link=ScriptedLink(self.cluster), backoff=Backoff(0.001, 0.002),
        )  # fmt: skip
        self.run(producer.start())
        return producer

    @rule(where=st.sampled_from([0, 1, "a", "b"]), count=st.integers(1, 4), poison=st.integers(0, 12))
    def produce(self, where: int | str, count: int, poison: int) -> None:
        async def call() -> None:
            for place in range(count):
                self.number += 1
                value = (POISON if place == poison else b"") + b"%d" % self.number
                try:
                    if isinstance(where, int):
                        delivery = self.producer.produce(TOPIC, where, value)
                    else:
                        delivery = self.producer.produce(TOPIC, None, value, key=where.encode())
                except BufferFull:
                    continue
                self.taken[where].append(Taken(value, delivery))

        self.run(call())

    @rule(turns=st.integers(1, 30))
    def some_time_passes(self, turns: int) -> None:
        async def turn() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.run(turn())

    @rule()
    def what_is_being_flushed_is_flushed(self) -> None:
        self.run(asyncio.sleep(0.005))

    @rule(hangs=st.booleans())
    def the_broker_goes_away(self, hangs: bool) -> None:
        self.cluster.go_away(hangs=hangs)

    @rule()
    def the_broker_comes_back(self) -> None:
        self.cluster.come_back()

    @rule()
    def an_ack_gets_lost(self) -> None:
        self.cluster.acks_lost += 1

    @precondition(lambda self: not self.disk_fails)
    @rule(only_the_flush=st.booleans())
    def the_disk_fails(self, only_the_flush: bool) -> None:
        self.disk_fails = True
        error = SpillUnusable(self.spill, "scripted", 28)

        def fail(*_: object) -> None:
            raise error

        assert self.producer._spill is not None
        for name in DISK[2:] if only_the_flush else DISK:
            setattr(self.producer._spill, name, fail)

    @precondition(lambda self: self.disk_fails)
    @rule()
    def the_disk_works_again(self) -> None:
        self.disk_fails = False
        for name in DISK:
            vars(self.producer._spill).pop(name, None)
        assert self.producer._flushing is not None
        self.run(self.producer._flushing.check())

    @rule()
    def it_is_killed_and_started_again(self) -> None:
        for taken in self.every():
            if not taken.killed:
                taken.killed, taken.certain = True, taken.certain or taken.delivery.is_accepted
        left, self.spill = self.spill, self.fresh()
        assert self.producer._spill is not None
        self.producer._spill._db.cancel_all_background(True)  # a copy takes time, in which nothing may change
        shutil.copytree(left, self.spill, dirs_exist_ok=True)
        self.run(self.bury(self.producer))
        self.disk_fails = False
        self.producer = self.start()

    async def bury(self, producer: ReliableProducer) -> None:
        for task in producer._tasks.values():
            task.cancel()
        await asyncio.gather(*producer._tasks.values(), return_exceptions=True)
        assert producer._flushing is not None
        assert producer._spill is not None
        await producer._flushing.close()
        await producer._link.close()
        producer._spill.close()

    @precondition(lambda self: not self.disk_fails)
    @rule()
    def it_is_stopped_and_started_again(self) -> None:
        self.run(self.producer.stop(timeout_s=0))
        for taken in self.every():
            taken.certain = taken.certain or not taken.killed
        self.producer = self.start()

    @invariant()
    def what_counts_against_the_limits_is_what_is_held(self) -> None:
        buffer = self.producer._buffer
        lanes = buffer.lanes.values()
        assert buffer.memory_messages == sum(lane.uncovered + len(lane.tail) for lane in lanes)
        assert buffer.memory_bytes == sum(
            message.size for lane in lanes for message in (*list(lane.ready)[: lane.uncovered], *lane.tail)
        )
        copies = [message for lane in lanes for message in list(lane.ready)[lane.uncovered :]]
        assert (buffer._copies, buffer._copies_bytes) == (len(copies), sum(message.size for message in copies))

    @rule()
    def everything_is_delivered(self) -> None:
        if self.disk_fails:
            self.the_disk_works_again()
        self.cluster.come_back()
        self.run(self.producer.drained())
        refused = {undelivered.value for undelivered in self.producer.undelivered()}
        for where, taken in self.taken.items():
            partition = where if isinstance(where, int) else partition_of(where.encode(), PARTITIONS)
            log = list(dict.fromkeys(self.cluster.logs[TOPIC, partition]))
            mine = [one.value for one in taken]
            arrived = [value for value in log if value in set(mine)]
            assert arrived == [value for value in mine if value in set(arrived)], "first occurrences are in order"
            for one in taken:
                if one.value.startswith(POISON):
                    assert one.value not in arrived
                    assert not one.certain or one.value in refused
                elif one.certain or (one.delivery.is_accepted and not one.killed):
                    assert one.value in set(arrived), f"{one.value!r} was accepted"
        known = {one.value for one in self.every()}
        assert {value for log in self.cluster.logs.values() for value in log} <= known, "nothing that nobody produced"
        load = self.producer.load()
        assert load == (0, 0, 0, 0, 0), "nothing stays in memory or on the disk"

    def every(self) -> list[Taken]:
        return [one for taken in self.taken.values() for one in taken]

    def teardown(self) -> None:
        if not hasattr(self, "producer"):
            return
        try:
            self.everything_is_delivered()
            self.run(self.producer.stop(timeout_s=0))
            waiting = [one.value for one in self.every() if not one.killed and not one.delivery.done]
            assert waiting == [], "each delivery comes to an end"
        finally:
            self.run(self.bury(self.producer))
            self.loop.close()
            shutil.rmtree(self.home, ignore_errors=True)


class CustodyInMemory(Custody):
    DURABLE = False


@pytest.mark.parametrize("machine", [Custody, CustodyInMemory])
def test_what_was_accepted_arrives_in_order_whatever_happens(machine: type[Custody]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
