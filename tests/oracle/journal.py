"""What the writer was told by the broker: which records it acknowledged, and where it put them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.oracle.generator import Made
from tests.oracle.records import Log


class Written(NamedTuple):
    """Consecutive records of one partition. `base_offset`: where the first one stands; None when nobody knows."""

    topic: str
    partition: int
    base_offset: int | None
    records: Sequence[Made]


@dataclass
class Journal:
    """Grows while the writer runs; `acked` and `unknown` are numbers of records."""

    seed: int
    written: list[Written] = field(default_factory=list)
    acked: int = 0
    unknown: int = 0

    def note(self, entry: Written) -> None:
        """Add what became of one produce request."""
        self.written.append(entry)
        if entry.base_offset is None:
            self.unknown += len(entry.records)
        else:
            self.acked += len(entry.records)

    def missing_from(self, topics: Mapping[str, Log]) -> list[str]:
        """Acknowledged records that do not stand, byte for byte, where the broker said; empty when all is well."""
        missing = []
        found_at = {
            (topic, partition): {record.offset: record for record in records}
            for topic, log in topics.items()
            for partition, records in log.items()
        }
        for entry in self.written:
            if entry.base_offset is None:
                continue
            by_offset = found_at.get((entry.topic, entry.partition), {})
            for offset, made in enumerate(entry.records, entry.base_offset):
                found = by_offset.get(offset)
                if found is None or (found.key, found.value, found.headers) != (made.key, made.value, made.headers):
                    missing.append(f"{entry.topic}/{entry.partition}@{offset}: {made.kind}, found {found!r:.200}")
        return missing
