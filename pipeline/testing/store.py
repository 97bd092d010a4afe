"""A unit's state in memory, and its rebuilding from the changelog."""

import bisect
from collections.abc import Iterable, Iterator, Sequence

from pipeline.core.state import Row
from pipeline.runtime.store import Store
from pipeline.testing.log import MemoryLog


class MemoryStore(Store):
    """The same promises as the RocksDB one, without a disk: many can be made in a property test."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self.offset: int | None = None
        self.written_at_s = 0.0
        self.origin_at: int | None = None

    def get(self, row: bytes) -> bytes | None:
        return self._rows.get(row)

    def get_many(self, rows: Sequence[bytes]) -> list[bytes | None]:
        return [self._rows.get(row) for row in rows]

    def apply(self, rows: Iterable[Row], offset: int, origin_at: int | None = None) -> None:  # noqa: ARG002 - as Store
        for key, value in rows:
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value
        self.offset = offset

    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        keys = sorted(self._rows)
        for key in keys[bisect.bisect_left(keys, start or prefix) :]:
            if not key.startswith(prefix):
                return
            yield key, self._rows[key]

    def close(self) -> None:
        """Nothing to release: a kept disk is this object."""


def catch_up(store: Store, log: MemoryLog, changelog: str, partition: int) -> None:
    """Apply what the changelog has beyond the store's offset, as a takeover does."""
    start = store.offset or 0
    records = log.read(changelog, partition, start)
    rows = [(record.key, record.value) for record in records if record.key is not None]
    if records:
        store.apply(rows, start + len(records))
