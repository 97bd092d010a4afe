"""Until when Kafka keeps what can't be erased, as the report says it."""

import pytest

from pipeline.core.routing import partition_of
from pipeline.ops.erase import _kept, _partitions

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


def test_a_key_is_looked_for_where_each_way_to_write_it_is() -> None:
    wanted = {partition_of(key, 64) for key in (b"Ann@Example.org", b"ann@example.org", b"ANN@EXAMPLE.ORG")}
    assert len(wanted) == 3
    assert set(_partitions("Ann@Example.org", 64, "murmur2") or ()) == wanted
    assert _partitions("7", 64, "crc32") == [partition_of(b"7", 64, "crc32")]
    assert _partitions("7", 64, "any") is None
