"""What the figures of faults and of recovery rest on: rows as our agent writes them, and the arithmetic."""

from __future__ import annotations

from typing import Any, cast

import pytest
from aiokafka import TopicPartition

from pipeline.core.idempotence import same_content, sets_of
from pipeline.core.state import State
from pipeline.runtime.store import FENCE
from tables.user_events import comments
from tests.bench.failover import Failovers, Handover
from tests.bench.peer import OURS, STOCK
from tests.bench.recovery import Rebuild, Rebuilds, faust_rows, rows
from tests.bench.resumption import Resumption
from tests.bench.storm import Interval, Storm
from tests.oracle.records import COMMENT_COUNTS


class Message:
    """A record as a fetch returns it."""

    def __init__(self, key: bytes) -> None:
        self.key = key


@pytest.fixture
def seen() -> Resumption:
    watching = Resumption.__new__(Resumption)
    watching._fenced, watching._resumed = {}, {}
    return watching


def note(seen: Resumption, now_s: float, topic: str, partition: int, *keys: bytes) -> None:
    fetched = {TopicPartition(topic, partition): [Message(key) for key in keys]}
    seen.note(cast(Any, fetched), now_s)


def test_the_rows_of_a_filled_changelog_are_those_that_the_agent_writes() -> None:
    stored: dict[bytes, bytes] = {}
    for mark, count in rows(2_000, partitions=4):
        user, msg_id = mark.key.decode().split("\0")[1:]
        state = State(user, {}, stored.get, msg_id)
        comments.of(state).add(msg_id)
        assert state.writes == {count.key: count.value}
        assert sets_of(mark.value) == state.sets == ["comments"]
        assert same_content(mark.value, mark.value[8:24])
        assert mark.partition == count.partition
        stored[count.key] = count.value


def test_faust_gets_as_many_records_of_the_same_messages() -> None:
    ours, theirs = list(rows(500, 4)), list(faust_rows(500, 4))
    assert [(m.partition, c.partition, c.value) for m, c in ours] == [
        (m.partition, c.partition, c.value) for m, c in theirs
    ]


def test_a_partition_has_gone_on_with_an_output_of_a_later_fetch_than_its_fence(seen: Resumption) -> None:
    note(seen, 1.0, COMMENT_COUNTS, 0, b"7")
    note(seen, 2.0, "changelog", 0, b"row", FENCE)
    assert seen._resumed == {}
    note(seen, 3.0, "changelog", 0, b"row")
    note(seen, 4.0, COMMENT_COUNTS, 1, b"8")
    note(seen, 5.0, COMMENT_COUNTS, 0, b"7")
    note(seen, 6.0, COMMENT_COUNTS, 0, b"7")
    assert (seen._fenced, seen._resumed) == ({0: 2.0}, {0: 5.0})


def test_ownership_taken_again_starts_the_wait_anew(seen: Resumption) -> None:
    note(seen, 1.0, "changelog", 0, FENCE)
    note(seen, 2.0, COMMENT_COUNTS, 0, b"7")
    note(seen, 3.0, "changelog", 0, FENCE)
    assert (seen._fenced, seen._resumed) == ({0: 3.0}, {})


def test_an_output_in_the_same_fetch_as_the_fence_is_the_old_owners(seen: Resumption) -> None:
    message = [Message(FENCE)]
    fetched = {TopicPartition("changelog", 0): message, TopicPartition(COMMENT_COUNTS, 0): [Message(b"7")]}
    seen.note(cast(Any, fetched), 1.0)
    assert (seen._fenced, seen._resumed) == ({0: 1.0}, {})


def test_percentiles_are_of_one_way_and_of_trials_that_happened() -> None:
    handovers = [Handover("kill", 1.0, 1.0, float(s), 10) for s in range(20, 0, -1)]
    handovers.append(Handover("stop", 1.0, 1.0, 99.0, 10))
    failovers = Failovers(4, "at_least_once", 10, 500, handovers, {})
    assert [failovers.percentile("kill", share) for share in (0.5, 0.95, 1.0)] == [10.0, 19.0, 20.0]
    assert failovers.percentile("stop", 0.5) == 99.0


def test_a_rate_of_recovery_leaves_out_what_a_start_takes_anyway() -> None:
    results = [Rebuild(OURS.name, 0, 2.0, 1.0), Rebuild(OURS.name, 1_000, 4.0, 1.5), Rebuild(STOCK.name, 0, 5.0, 1.0)]
    rebuilds = Rebuilds([0, 1_000], 4, 1, results)
    assert rebuilds.rate_per_s(OURS.name, 1_000) == 500
    assert rebuilds.rate_per_s(OURS.name, 1_000, "cpu_s") == 2_000
    assert rebuilds.rate_per_s(OURS.name, 0) is None
    assert rebuilds.rate_per_s(STOCK.name, 1_000) is None
    assert rebuilds.ratio(1_000) is None


def test_a_partition_that_stood_still_between_two_changes_is_counted() -> None:
    intervals = [Interval("join", 20.0, {0: 5, 1: 7}), Interval("leave", 20.0, {0: 0, 1: 3})]
    storm = Storm(2, "at_least_once", 40, 20, 100, intervals, 10.0, 0, 0.0, {})
    assert (storm.stood_still, storm.least_advance) == (1, 0)
