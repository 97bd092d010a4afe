"""A recovery doesn't hold up the worker: it applies a bounded number of rows at a time, however much a fetch brings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pipeline.broker import EmbeddedBroker
from pipeline.core.state import Row
from pipeline.runtime.ownership import Owner
from pipeline.runtime.recovery import ROWS_AT_ONCE, Restoring, restore
from pipeline.runtime.store import FENCE, Store

ROWS = 2 * ROWS_AT_ONCE + 1_000


class Counting(Store):
    """Notes how many rows it is given at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.slices: list[int] = []

    def apply(self, rows: Iterable[Row], offset: int, origin_at: int | None = None) -> None:
        given = list(rows)
        self.slices.append(len(given))
        super().apply(given, offset, origin_at)


async def test_a_long_changelog_is_applied_in_slices_and_whole(tmp_path: Path) -> None:
    rows = {b"row%06d" % number: b"%d" % number for number in range(ROWS)}
    with EmbeddedBroker() as broker:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("changelog", 1, 1)])
        await admin.close()
        owner = await Owner.take([broker.bootstrap], "app/changelog/0", {})
        await owner.append_rows("changelog", 0, [[row] for row in rows.items()])
        fence = await owner.append_rows("changelog", 0, [[(FENCE, b"1")]]) - 1
        await owner.abandon()
        store = Counting(tmp_path / "0")
        try:
            await restore([broker.bootstrap], {}, [Restoring("app/0", "changelog", 0, store, fence)], store.cache)
            assert max(store.slices) <= ROWS_AT_ONCE
            assert dict(store.scan(b"row")) == rows
            assert store.offset == fence + 1
        finally:
            store.close()
