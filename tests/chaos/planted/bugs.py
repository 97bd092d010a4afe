"""The bugs: each replaces one thing of the product inside a worker process. None of this is in the product."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.runtime.app import App
from tests.chaos.planted import outputs, ownership, positions, rows

Plant = Callable[[App], None]

BUGS: dict[str, Plant] = {
    "dedup-off": rows.dedup_off,
    "drop-one-in-1000": rows.drop_one_in_a_thousand,
    "swap-two": rows.swap_two,
    "rejected-id-marked": rows.rejected_id_marked,
    "error-record-skipped": outputs.error_record_skipped,
    "fresh-ids": outputs.fresh_ids,
    "tombstone-ignored": rows.tombstone_ignored,
    "commit-before-send": positions.commit_before_send,
    "commit-what-was-fetched": positions.commit_what_was_fetched,
    "mark-before-output": outputs.mark_before_output,
    "local-before-changelog": outputs.local_before_changelog,
    "changelog-not-awaited": outputs.changelog_not_awaited,
    "stale-restore": ownership.stale_restore,
    "fence-off": ownership.fence_off,
    "prefix-acked-wholly": positions.prefix_acked_wholly,
    "producer-reused": ownership.producer_reused,
    "positions-not-written": positions.positions_not_written,
}


def plant(name: str, app: App) -> None:
    """Plant one bug into this process; KeyError for an unknown name."""
    BUGS[name](app)
