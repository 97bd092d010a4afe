"""A worker with a deduplication horizon: its marks go while it works, and its places agree (D6)."""

import json
import uuid
from pathlib import Path

from pipeline.core.routing import partition_of
from tests.behaviour.place import Place
from tests.kafka import pages
from tests.kafka.waiting import until
from tests.oracle.records import AGENT, USER_EVENTS
from tests.oracle.views import changelog_view, rocksdb_view, unit_directories

USER = b"1"
PARTITION = partition_of(USER, 2)
MARKS = b"_marks\x00"


def comment() -> tuple[bytes, bytes]:
    event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": 1, "msg": "x"}}
    return USER, json.dumps(event).encode()


async def test_a_worker_deletes_marks_past_the_horizon_and_keeps_the_count(tmp_path: Path) -> None:
    with Place(tmp_path, dedup_horizon_s="1") as place:
        worker = place.worker()
        first = [comment() for _ in range(20)]
        await place.send(USER_EVENTS, first, PARTITION)
        sent = len(first)

        async def expired() -> bool:
            """Time moves on by records: none, no expiry."""
            nonlocal sent
            await place.send(USER_EVENTS, [comment()], PARTITION)
            sent += 1
            return (await pages.metric(worker, "hardparts_marks_expired_total", agent=AGENT) or 0) >= len(first)

        await until(expired, 60, "the first marks have gone")
        await place.send(USER_EVENTS, first[:1], PARTITION)
        sent += 1
        await place.committed_to(sent, USER_EVENTS, PARTITION)
        assert worker.stop() == 0
        changelog = await changelog_view(place.bootstrap, place.app_id)
        disk = rocksdb_view(unit_directories(Path(place.cli.environment["HARDPARTS_DATA_DIR"]), "one"))
        assert disk[PARTITION] == changelog[PARTITION]
        rows = changelog[PARTITION]
        assert rows[b"comments\x00" + USER] == b"%d" % sent, "counts stay, and what comes from beyond counts anew"
        assert sum(row.startswith(MARKS) for row in rows) <= sent - len(first)
        warned = [line for line in worker.end_of_log(100_000).splitlines() if "HARDPARTS_DEDUP_HORIZON_S" in line]
        assert len([line for line in warned if f"{USER_EVENTS} keeps records for" in line]) == 1, warned
