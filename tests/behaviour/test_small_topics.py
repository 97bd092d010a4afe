"""Topics that take smaller record batches than the producer builds by itself, and state that is read again."""

import asyncio
import json
import os
import time
import uuid
from pathlib import Path

import pytest

from pipeline.runtime.recovery import STATE_AGE_MAX_S, unfit
from pipeline.runtime.store import Store
from tests.behaviour.place import Place
from tests.oracle.judge import judge

BATCH_BYTES_MAX, EVENTS = 20_000, 500


async def test_a_batch_of_many_events_goes_out_in_record_batches_that_each_topic_takes(tmp_path: Path) -> None:
    with Place(tmp_path, partitions=1, bytes_max=BATCH_BYTES_MAX) as place:
        records: list[tuple[bytes | None, bytes | None]] = []
        for number in range(EVENTS):
            event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": 1, "msg": "x"}}
            records.append((b"1", json.dumps(event).encode()))
            if number % 50 == 0:
                records.append((b"1", b"no JSON " * 500))
        records.append((b"1", os.urandom(BATCH_BYTES_MAX)))  # too large for the error topic by itself
        await place.send("user-events", records, 0)
        worker = await asyncio.to_thread(place.worker)
        await place.committed_to(len(records), "user-events", 0)
        counts = [json.loads(record.value or b"")["data"]["count"] for record in (await place.log("comment-counts"))[0]]
        assert counts == list(range(1, EVENTS + 1)), "in order, each once: nothing had to be repeated"
        report = await judge(place.bootstrap, place.app_id)
        assert report.counts == {"error record bounded without need": 1}, str(report)  # the oracle thinks of 1 MB
        assert worker.stop() == 0
        assert "blocks on" not in worker.log.read_text()


@pytest.mark.parametrize(
    ("age_s", "trusted"),
    [
        (0, True),
        (STATE_AGE_MAX_S - 60, True),
        (STATE_AGE_MAX_S + 60, False),
        (-5, True),
        (-3600, False),
        (-9 * 86400, False),
    ],
)
def test_state_is_read_again_unless_it_is_old_or_of_another_clock(
    tmp_path: Path, age_s: float, trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taking ownership anew asks this of a store that the process itself has just filled."""
    store, now_s = Store(tmp_path / "0"), time.time()
    store.apply([(b"comments\x001", b"7")], 5)
    monkeypatch.setattr("pipeline.runtime.recovery.time.time", lambda: now_s + age_s)
    assert (unfit(store, 0, 9) is None) == trusted
    store.close()
