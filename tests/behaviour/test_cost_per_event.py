"""The work for one event doesn't grow with the number of ids that its user has (D5): counted, not timed."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from agents.user_events import user_events
from pipeline.core.state import Row
from pipeline.core.turn import TURN
from pipeline.runtime.store import Store
from pipeline.testing import Kit

IDS = (10, 1_000, 20_000)


class Counting:
    """Counts what a store is asked for, and the bytes of what it is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = self.rows = self.bytes = self.scans = 0
        get, get_many, apply, scan = Store.get, Store.get_many, Store.apply, Store.scan

        def counted_get(store: Store, row: bytes) -> bytes | None:
            self.reads += 1
            return get(store, row)

        def counted_get_many(store: Store, rows: Sequence[bytes]) -> list[bytes | None]:
            self.reads += len(rows)
            return get_many(store, rows)

        def counted_apply(store: Store, rows: Iterable[Row], offset: int, origin_at: int | None = None) -> None:
            given = list(rows)
            written = [row for row in given if row[0] != TURN]  # one a batch, not one an event
            self.rows += len(written)
            self.bytes += sum(len(key) + len(value or b"") for key, value in written)
            apply(store, given, offset, origin_at)

        def counted_scan(store: Store, prefix: bytes) -> object:
            self.scans += 1
            return scan(store, prefix)

        monkeypatch.setattr(Store, "get", counted_get)
        monkeypatch.setattr(Store, "get_many", counted_get_many)
        monkeypatch.setattr(Store, "apply", counted_apply)
        monkeypatch.setattr(Store, "scan", counted_scan)

    def since(self, before: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        reads, rows, written, scans = before
        return self.reads - reads, self.rows - rows, self.bytes - written, self.scans - scans

    @property
    def now(self) -> tuple[int, int, int, int]:
        return self.reads, self.rows, self.bytes, self.scans


def test_an_event_of_a_user_with_20000_ids_reads_and_writes_what_one_with_10_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(monkeypatch)
    costs: dict[int, tuple[int, int, int, int]] = {}
    changelog: dict[int, int] = {}
    repeats: dict[int, tuple[int, int, int, int]] = {}
    with Kit(user_events, data_dir=tmp_path) as kit:
        known = 0
        for ids in IDS:
            kit.feed(kit.event("comment.created", user_id=1, msg="x") for _ in range(ids - known))
            kit.run()
            before, logged = counting.now, rows_in_changelog(kit)
            given = kit.given("comment.created", user_id=1, msg="x")
            kit.run()
            costs[ids], changelog[ids] = counting.since(before), rows_in_changelog(kit) - logged
            before = counting.now
            kit.feed([given])
            kit.run()
            repeats[ids], known = counting.since(before), ids + 1
        assert kit.state("comments", 1) == known
    reads, rows, written, scans = zip(*costs.values(), strict=True)
    assert set(reads) == {2}, "its mark, and the count"
    assert set(rows) == {2}
    assert max(written) - min(written) <= 4, "the digits of the count"
    assert set(scans) == {0}
    assert set(changelog.values()) == {2}
    assert set(repeats.values()) == {(1, 0, 0, 0)}, "a duplicate reads its mark and writes nothing"


def rows_in_changelog(kit: Kit) -> int:
    rows = kit.worker.log.read(kit.worker.app.changelog(kit.worker.agent), 0)
    return sum(row.key != TURN for row in rows)
