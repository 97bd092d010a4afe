"""One of two workers loses its link without a word, longer than its session lasts; then all that it sent arrives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kafka import sizes
from tests.kafka.feed import Feed
from tests.kafka.links import LinkedCluster
from tests.kafka.trial import GUARANTEES, Trial

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]  # the first run compiles the link
LATENCY_MS, BATCH, RATE = 40, 50, 2_000
"""A batch waits for two answers at least, so that the worker behind the link always has a next one to send."""
REFUSED = "taking ownership anew"


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_what_a_worker_sent_before_its_partitions_moved_arrives_later_and_is_refused(
    linked: LinkedCluster, tmp_path: Path, guarantee: str
) -> None:
    link = linked.link
    async with Trial(linked, tmp_path, processing_guarantee=guarantee, batch_records_max=str(BATCH)) as trial:
        far, near = trial.worker("far", broker=linked.far), trial.worker("near")
        await trial.start(far, near)
        await trial.shared(far, near)
        link.slow(LATENCY_MS, 0, 1_000)
        async with Feed(trial, sizes.seed(), rate=RATE) as feed:
            await feed.more(2 * RATE)
            takeovers, refused = len(trial.takeovers(far)), far.log.read_text().count(REFUSED)
            link.still()
            await trial.shared(near)
            await feed.more(RATE)
            link.well()
            await trial.rejoined(far, takeovers)
            assert far.log.read_text().count(REFUSED) > refused
            await trial.shared(far, near)
            journal = await feed.end()
        await trial.verdict(journal)
