"""Until when Kafka keeps what can't be erased, as the report says it."""

import pytest

from pipeline.ops.erase import _kept

NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("retention_ms", "newest_ms", "said"),
    [
        (7 * DAY_MS, NOW_MS, "stays until 2027-01-22 at the latest (retention 7 d"),
        (7 * DAY_MS, NOW_MS - 8 * DAY_MS, "past the retention of 7 d"),
        (2**63 - 1, NOW_MS, "stays for ever: retention "),
        (7 * DAY_MS, NOW_MS * 1_000_000, "stays for ever: retention 7 d"),
        (-1, NOW_MS, "stays for ever: no retention"),
    ],
)
def test_any_retention_and_any_time_of_a_record_can_be_told(retention_ms: int, newest_ms: int, said: str) -> None:
    config = {"cleanup.policy": "delete", "retention.ms": str(retention_ms), "segment.ms": "0"}
    assert _kept(config, newest_ms, NOW_MS).startswith(said)
