"""When a mark may go: the deduplication horizon (D6).

A mark's time is when it was applied by the worker's clock, or its record's time if that is later. It is judged by the
earlier of two clocks: the worker's, and the newest record time that its unit has seen. So no single wrong clock lets a
mark go early: a record from the future moves nothing, a worker's clock that has jumped ahead is held by the records,
and a backlog or a record with an old time is remembered from when it was applied. An error of the other sort only keeps
marks for longer.
"""

from collections.abc import Mapping

from pipeline.core.idempotence import mark_time_ms
from pipeline.core.topic import cleanup_policies


def expires_before_ms(horizon_ms: int, now_ms: int, newest_record_ms: int) -> int:
    """Marks with an earlier time may go; 0 (none) while no record has been seen.

    >>> expires_before_ms(1_000, now_ms=10_000, newest_record_ms=9_500)
    8500
    """
    return max(min(now_ms, newest_record_ms) - horizon_ms, 0)


def is_expired(mark: bytes, before_ms: int) -> bool:
    """Whether this mark may go."""
    return mark_time_ms(mark) < before_ms


def outlived(horizon_s: float, configs: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Source topics that keep records for longer than their marks are kept: name → for how long, as people say it.

    A record that is read again after its mark has gone is applied again. configs: topic → its settings in force.
    """
    found = {}
    for name, config in sorted(configs.items()):
        kept_ms = int(config.get("retention.ms", -1)) if "delete" in cleanup_policies(config) else -1
        if kept_ms < 0:
            found[name] = "for ever"
        elif kept_ms > horizon_s * 1000:
            found[name] = f"for {shown(kept_ms / 1000)}"
    return found


def shown(seconds: float) -> str:
    """A span of time, in the largest unit that it fills.

    >>> shown(604_800), shown(5_400), shown(90), shown(2.5)
    ('7 d', '1.5 h', '1.5 min', '2.5 s')
    """
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
