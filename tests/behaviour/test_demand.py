"""Bounded demand: how many handlers run at once in a worker, shared by its units (X3)."""

import asyncio
import json
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.runtime.demand import Demand
from tests.behaviour.place import Place
from tests.kafka import pages
from tests.kafka.waiting import until
from tests.oracle.process import Worker
from tests.oracle.records import partition_of

DEMAND, PARTITIONS, EVENTS = 50, 4, 1_000
USERS = {n: [u for u in range(1, EVENTS + 1) if partition_of(b"%d" % u, PARTITIONS) == n] for n in range(PARTITIONS)}
"""partition → users; each of the thousand has a key of its own."""
TWICE = 20
"""Users of each partition who write a second time."""


def comment(user: int, msg: str) -> tuple[bytes, bytes]:
    event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": user, "msg": msg}}
    return b"%d" % user, json.dumps(event).encode()


def held(worker: Worker) -> dict[int, dict[str, Any]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.web_port}/held/", timeout=10) as answer:
        return {int(number): unit for number, unit in json.load(answer).items()}


def slots(worker: Worker) -> list[int]:
    return [unit["slots"] for _, unit in sorted(held(worker).items())]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("TEST_DIR", str(tmp_path))
    with Place(
        tmp_path,
        app="tests.behaviour.apps.stuck:app",
        agents=["stuck", "plain"],
        partitions=PARTITIONS,
        demand=str(DEMAND),
        batch_records_max="20",
    ) as place:
        yield place


async def test_a_thousand_queued_events_have_exactly_fifty_handlers_in_flight(place: Place, tmp_path: Path) -> None:
    (tmp_path / "away").touch()
    blocking, padding = USERS[0][-1], "x" * 20_000  # so that a fetch brings a part of what is queued
    await place.send("user-events", [comment(blocking, "blocks")], 0)
    queued = {
        number: [comment(user, f"first {padding}") for user in users]
        + [comment(user, "second") for user in users[:TWICE]]
        for number, users in USERS.items()
    }
    for number in range(1, PARTITIONS):  # before the worker is there, so that its first batches are whole ones
        await place.send("user-events", queued[number], number)
    worker = await asyncio.to_thread(place.worker)

    async def is_blocked() -> bool:
        return bool((await pages.ready(worker)).get("blocked"))

    await until(is_blocked, 30, "partition 0 is blocked")
    await place.send("user-events", queued[0], 0)

    # A unit in backoff holds no slot; one is kept for it, the others share the rest.
    await until(lambda: sum(slots(worker)) == DEMAND - 1, 30, "all slots but one are taken")
    assert slots(worker)[0] == 0
    (tmp_path / "away").unlink()
    await until(lambda: slots(worker)[0] == 1, 30, "the blocked unit goes on at once, though everybody else is stuck")
    assert sum(slots(worker)) == DEMAND
    assert min(slots(worker)) >= 1
    assert await pages.metric(worker, "hardparts_in_flight") == DEMAND

    # What waits behind them isn't fetched, and what is finished out of turn isn't committed.
    await until(lambda: not any(unit["room"] for unit in held(worker).values()), 30, "every unit is full")
    fetched = {number: unit["fetched"] for number, unit in held(worker).items()}
    (tmp_path / str(USERS[1][3])).touch()
    journal = tmp_path / "journal"
    await until(lambda: f"ends 1 {USERS[1][3]} first" in journal.read_text(), 10, "one out of turn ends")
    later = time.monotonic() + 1.5
    while time.monotonic() < later:
        assert sum(slots(worker)) <= DEMAND
    assert {number: unit["fetched"] for number, unit in held(worker).items()} == fetched
    assert all(position < len(USERS[number]) for number, position in fetched.items())
    assert set((await place.committed()).values()) <= {0}

    (tmp_path / "go").touch()
    for number, users in USERS.items():
        await place.committed_to(len(users) + TWICE + (number == 0), "user-events", number, 60)
    in_flight, most, turns = 0, 0, Counter[str]()
    for line in journal.read_text().splitlines():
        what, _, user, word = line.split()
        in_flight += 1 if what == "begins" else -1
        most = max(most, in_flight)
        # A user's handlers run one after the other, in the order of the topic.
        order = ["begins first", "ends first", "begins second", "ends second"]
        if int(user) != blocking:
            assert f"{what} {word}" == order[turns[user]]
        turns[user] += 1
    assert most == DEMAND
    assert sum(turns.values()) == 2 * (EVENTS + 1 + TWICE * PARTITIONS)
    assert worker.stop() == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.lists(st.integers(0, 8), min_size=1, max_size=4))
def test_slots_are_never_more_than_the_limit_and_each_unit_gets_one(limit: int, wanted: list[int]) -> None:
    async def run() -> tuple[int, list[int]]:
        demand, go, held, most = Demand(limit), asyncio.Event(), Counter[int](), 0
        for unit in range(len(wanted)):
            demand.join(str(unit))

        async def handler(unit: int) -> None:
            nonlocal most
            async with demand.slot(str(unit)):
                held[unit] += 1
                most = max(most, demand.in_flight)
                await go.wait()

        tasks = [asyncio.create_task(handler(unit)) for unit, number in enumerate(wanted) for _ in range(number)]
        for _ in range(len(tasks) + 1):  # turns of the loop: enough for each to begin, were it let
            await asyncio.sleep(0)
        stuck = [held[unit] for unit in range(len(wanted))]
        go.set()
        await asyncio.gather(*tasks)  # nobody is forgotten: every one of them gets its turn
        assert demand.in_flight == 0
        return most, stuck

    most, stuck = asyncio.run(run())
    assert most <= max(limit, len(wanted))  # a slot for each unit goes before the limit
    assert all(held >= 1 for held, number in zip(stuck, wanted, strict=True) if number)


def test_a_unit_that_leaves_gives_its_slot_to_the_others() -> None:
    async def run() -> list[int]:
        demand, go, seen = Demand(3), asyncio.Event(), []
        demand.join("a")
        demand.join("b")

        async def handler() -> None:
            async with demand.slot("a"):
                await go.wait()

        tasks = [asyncio.create_task(handler()) for _ in range(5)]
        for change in (lambda: None, lambda: demand.leave("b")):
            change()
            for _ in range(20):
                await asyncio.sleep(0)
            seen.append(demand.in_flight)
        go.set()
        await asyncio.gather(*tasks)
        return seen

    assert asyncio.run(run()) == [2, 3]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_demand_below_one_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Demand(limit)


async def test_a_handler_that_swallows_a_cancel_does_not_hold_up_the_stop(place: Place, tmp_path: Path) -> None:
    worker = await asyncio.to_thread(place.worker)
    await place.send("user-events", [comment(USERS[0][0], "swallows")], 0)
    journal = tmp_path / "journal"
    await until(lambda: journal.exists() and "swallows" in journal.read_text(), 30, "the handler runs")
    assert await asyncio.to_thread(worker.stop, 12) == 0
    assert "ends" not in journal.read_text()
    assert (await place.committed()).get(("user-events", 0), 0) == 0


async def test_a_handler_that_swallows_every_cancel_is_named_and_ends_with_its_process(
    place: Place, tmp_path: Path
) -> None:
    worker = await asyncio.to_thread(place.worker)
    await place.send("user-events", [comment(USERS[0][0], "holds")], 0)
    journal = tmp_path / "journal"
    await until(lambda: journal.exists() and "holds" in journal.read_text(), 30, "the handler runs")
    assert await asyncio.to_thread(worker.stop, 40) == 1
    assert f"{place.app_id}/stuck/0 has been cancelled for 10 s and doesn't end" in worker.end_of_log()
    assert "stuck.py" in worker.end_of_log()
    assert (await place.committed()).get(("user-events", 0), 0) == 0
