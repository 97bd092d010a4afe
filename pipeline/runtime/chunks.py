"""What was fetched, cut into batches that a unit gets through without keeping the event loop from everything else."""

from collections.abc import Iterator, Sequence

from pipeline.core.record import Record

BATCH_VALUE_BYTES_MAX = 1 << 20
"""Bytes of the values of one batch. A compressed record batch of a megabyte may hold a thousand times that, and a unit
decodes a batch in one go: measured, up to half a second for a megabyte of the worst JSON.
"""


def chunks(records: Sequence[Record], end: int, records_max: int) -> Iterator[tuple[int, Sequence[Record]]]:
    """(next position, records) of each batch; a larger record has a batch of its own. end: the position behind all.

    Without a record there is one empty batch: offsets that hold none have been passed.
    """
    first = size_bytes = 0
    for number, record in enumerate(records):
        value = record.value
        more_bytes = len(value) if value is not None else 0
        if number - first == records_max or (number > first and size_bytes + more_bytes > BATCH_VALUE_BYTES_MAX):
            yield record.offset, records[first:number]
            first, size_bytes = number, 0
        size_bytes += more_bytes
    if first < len(records) or not records:
        yield end, records[first:]
