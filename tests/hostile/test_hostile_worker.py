"""Thousands of hostile records through a worker: no crash, no hang, one error record each, and every good one counts.

`make soak ARGS=hostile` makes 100,000 of them, on a real Kafka; then the event loop may not stall for a second.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.behaviour.place import Place
from tests.hostile.run import run
from tests.kafka.sizes import HOSTILE

pytestmark = pytest.mark.timeout(300 + HOSTILE() // 100)
PARTITIONS = 2


async def test_every_hostile_record_has_one_error_record_and_every_good_one_counts(tmp_path: Path) -> None:
    with Place(tmp_path, partitions=PARTITIONS) as place:
        worker = await asyncio.to_thread(place.worker)
        await run(place.bootstrap, place.app_id, worker, PARTITIONS)
