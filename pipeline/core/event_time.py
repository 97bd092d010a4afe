"""The time that an output is written under, and the time of its event where that is another.

An output has its source record's time, unless the broker would delete it at once or refuse it: what is older than the
topic keeps goes within minutes, and since Kafka 4 a time more than an hour ahead is refused. Then it has the nearest
time that is fine, and the header `hp-event-time` has the original. A record that came with this header had another time
at first: its outputs carry the header on, so the original survives any number of agents.
"""

from pipeline.core.record import Record

EVENT_TIME = "hp-event-time"
"""Header: milliseconds since the epoch, in decimal."""
DAY_MS = 24 * 3600 * 1000
AHEAD_MS_MAX = 1_000
"""Clocks of two machines differ by so much; a record that is less ahead is no reason to write another time."""
DIGITS_MAX = 20


def output_time(record: Record, now_ms: int, age_ms_max: int) -> tuple[int, bytes | None]:
    """(the output's time, its header `hp-event-time` or None) in milliseconds. age_ms_max: of an output on its topic.

    now_ms: the worker's clock, one reading for a batch; 0 without one: the record's time, as it is.
    """
    at_ms, original = record.timestamp, first_time(record)
    if not now_ms or -AHEAD_MS_MAX <= now_ms - at_ms <= age_ms_max:
        return at_ms, original
    if original is None and at_ms >= 0:  # -1: a record without a time
        original = b"%d" % at_ms
    return (now_ms if at_ms > now_ms else now_ms - age_ms_max), original


def first_time(record: Record) -> bytes | None:
    """The header `hp-event-time` that a record came with; None without one, or for one that isn't a number."""
    for name, value in record.headers:
        if name == EVENT_TIME and len(value or b"") <= DIGITS_MAX and (value or b"").isdigit():
            return value
    return None
