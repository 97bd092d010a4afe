"""The rows in memory: bounded, in order of id, and no topic has it all."""

from __future__ import annotations

import pytest

from pipeline.core.backoff import Backoff
from pipeline.outbox.rows import Row, RowBroken, Waiting, record_of
from pipeline.outbox.verdict import Verdict, verdict_of
from pipeline.outbox.window import ROW_OVERHEAD_BYTES, Bounds, Queue, Window
from pipeline.producer import BadPayload, BadTopic, BufferFull, NonExistingTopic, Stopped, Undeliverable

BOUNDS = Bounds(rows=40, bytes=40_000, chunk_rows=4, chunk_bytes=3_000)


def fill(window: Window, waiting: list[Waiting]) -> list[int]:
    chosen, _ = window.choose(waiting)
    window.add([Row(row.id, row.topic, None, "", None) for row in chosen], {row.id: row.bytes for row in chosen})
    return [row.id for row in chosen]


def rows(topic: str, ids: range, size: int = 10) -> list[Waiting]:
    return [Waiting(id_, topic, size) for id_ in ids]


def sent(window: Window, queue: Queue) -> list[int]:
    """A chunk is over, and fine."""
    ids = [row.id for row in queue.sending]
    queue.sending = []
    window.taken_by_kafka(queue)
    window.forget(ids)
    return ids


def test_a_topic_has_a_quarter_of_the_rows_and_the_others_what_is_left() -> None:
    window = Window(BOUNDS, Backoff())
    assert fill(window, rows("a", range(30))) == list(range(10))
    assert window.closed(0.0) == {"a"}
    assert fill(window, [*rows("a", range(30)), *rows("b", range(100, 103))]) == [100, 101, 102]
    assert window.taken == 13
    assert window.room == 4


def test_a_topic_has_a_quarter_of_the_bytes_without_a_gap() -> None:
    window = Window(BOUNDS, Backoff())
    large = [*rows("a", range(2), 4_500), Waiting(2, "a", 4_500), Waiting(3, "a", 1)]
    assert fill(window, large) == [0, 1], "3 would fit, but 2 is before it"
    assert fill(window, rows("b", range(10, 12), 4_500)) == [10, 11]
    assert window.choose([Waiting(50, "c", 9_900)]) == ([], [Waiting(50, "c", 9_900)])


def test_all_topics_together_are_bounded() -> None:
    window = Window(BOUNDS, Backoff())
    for number in range(10):
        fill(window, rows(f"t{number}", range(number * 100, number * 100 + 50), 900))
    assert window._bytes <= BOUNDS.bytes
    assert window.taken * (900 + ROW_OVERHEAD_BYTES) == window._bytes


def test_a_topic_begins_with_one_row_and_then_has_one_chunk_at_a_time() -> None:
    window = Window(BOUNDS, Backoff())
    fill(window, rows("a", range(10)))
    (queue,) = window.chunks(0.0)
    assert list(window.chunks(0.0)) == [], "one at a time"
    assert sent(window, queue) == [0]
    (queue,) = window.chunks(0.0)
    assert sent(window, queue) == [1, 2, 3, 4]


def test_a_chunk_is_bounded_in_bytes_and_a_row_that_is_larger_goes_alone() -> None:
    window = Window(BOUNDS, Backoff())
    sizes = [10, 1_000, 1_000, 4_000, 10]
    fill(window, [Waiting(id_, "a", size) for id_, size in enumerate(sizes)])
    chunks = []
    for _ in range(4):
        (queue,) = window.chunks(0.0)
        chunks.append(sent(window, queue))
    assert chunks == [[0], [1, 2], [3], [4]]
    assert window.taken == 0


def test_a_topic_that_is_held_is_read_again_from_its_first_row() -> None:
    window = Window(BOUNDS, Backoff(1.0, 30.0))
    fill(window, rows("a", range(10)))
    for refusals, wait_s in ((1, 1.0), (2, 2.0), (3, 4.0)):
        now = refusals * 100.0
        (queue,) = window.chunks(now)
        refused = [row.id for row in queue.sending]
        assert refused == [0]
        queue.sending = []
        window.hold(queue, now, "denied", refused)
        assert (window.taken, window.held(), window.closed(now)) == (0, {"a": "denied"}, {"a"})
        assert window.closed(now + wait_s) == set()
        assert fill(window, rows("a", range(10))) == list(range(10))
    assert list(window.chunks(304.0)) == [queue]
    sent(window, queue)
    assert window.held() == {}


def test_names_that_no_row_has_any_more_are_forgotten() -> None:
    window = Window(BOUNDS, Backoff())
    for number in range(1_000):
        fill(window, rows(f"bad {number}", range(number, number + 1)))
        (queue,) = window.chunks(0.0)
        queue.sending = []
        window.forget([number])
    assert window._queues == {}


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (BadTopic(""), Verdict.FAILED),
        (BadPayload(""), Verdict.FAILED),
        (RowBroken(""), Verdict.FAILED),
        (Undeliverable("message_too_large", 10, ""), Verdict.FAILED),
        (Undeliverable("invalid_topic_exception", 17, ""), Verdict.FAILED),
        (Undeliverable("unknown_server_error", -1, ""), Verdict.FAILED),
        (Undeliverable("topic_authorization_failed", 29, ""), Verdict.WAITS),
        (NonExistingTopic(""), Verdict.WAITS),
        (BufferFull(""), Verdict.WAITS),
        (Stopped(""), Verdict.WAITS),
    ],
)
def test_whose_fault_an_error_is(error: Exception, verdict: Verdict) -> None:
    assert verdict_of(error) is verdict


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Row(1, "t", "\ud800", "", None), "key isn't UTF-8"),
        (Row(1, "t", None, 7, None), "value is text or bytes, not int"),  # type: ignore[arg-type]
        (Row(1, "t", None, "", '{"a": "\\ud800"}'), "headers aren't UTF-8"),
        (Row(1, "t", None, "", "[" * 100_000), "headers aren't JSON"),
        (Row(1, "t", None, "", "1"), "a JSON object of texts"),
    ],
)
def test_a_row_that_is_no_record_says_why(row: Row, said: str) -> None:
    with pytest.raises(RowBroken, match=said):
        record_of(row)
