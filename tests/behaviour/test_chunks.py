"""What one fetch brought is cut by number and by bytes, and nothing is left out."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.record import StoredRecord
from pipeline.runtime.chunks import BATCH_VALUE_BYTES_MAX, chunks

SIZES = st.lists(st.sampled_from([None, 0, 1, 1000, 400_000, BATCH_VALUE_BYTES_MAX, BATCH_VALUE_BYTES_MAX + 1]))
VALUES = {None: None} | {size: bytes(size) for size in (0, 1, 1000, 400_000, 1 << 20, (1 << 20) + 1)}


@given(SIZES, st.integers(1, 5), st.integers(1, 3))
def test_batches_hold_every_record_once_and_are_as_small_as_asked(
    sizes: list[int | None], records_max: int, step: int
) -> None:
    records = [StoredRecord("t", 0, 10 + step * n, 0, None, VALUES[size]) for n, size in enumerate(sizes)]
    end = 10 + step * len(records) + 7  # control records at the end
    cut = list(chunks(records, end, records_max))
    assert [record for _, chunk in cut for record in chunk] == records
    assert [stop for stop, _ in cut] == [*(chunk[0].offset for _, chunk in cut[1:]), end]
    for _, chunk in cut:
        assert len(chunk) <= records_max
        assert chunk or not records
        assert len(chunk) <= 1 or sum(len(record.value or b"") for record in chunk) <= BATCH_VALUE_BYTES_MAX
    for (_, first), (_, second) in pairwise(cut):  # no smaller than needed
        full = sum(len(record.value or b"") for record in (*first, second[0])) > BATCH_VALUE_BYTES_MAX
        assert full or len(first) == records_max
