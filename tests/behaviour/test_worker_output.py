"""A worker whose standard output nobody reads any more goes on: records matter, the line `ready` doesn't."""

import asyncio
import json
import signal
import uuid
from pathlib import Path

from pipeline.core.routing import partition_of
from tests.behaviour.place import Place
from tests.oracle.records import USER_EVENTS


def comment() -> tuple[bytes, bytes]:
    user = next(number for number in range(1, 100) if partition_of(b"%d" % number, 2) == 0)
    event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": user, "msg": "hello"}}
    return b"%d" % user, json.dumps(event).encode()


async def test_a_worker_whose_output_is_closed_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Place(tmp_path) as place, log.open("w") as stderr, place.cli.running("worker", stderr=stderr) as worker:
        assert worker.stdout is not None
        worker.stdout.close()
        await place.send(USER_EVENTS, [comment()], 0)
        await place.committed_to(1, USER_EVENTS, 0, timeout_s=60)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 60) == 0
    said = log.read_text()
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert "standard output takes nothing more: " in said
