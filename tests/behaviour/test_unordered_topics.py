"""Topics without a key: work that needs no order, and what an ordered agent does with a record without a key (O4)."""

import asyncio
import json
import uuid
from collections import Counter
from pathlib import Path

from agents.user_events import user_events
from pipeline.testing import Kit
from tests.behaviour.apps.gallery import resizer
from tests.behaviour.place import Place
from tests.kafka.waiting import until


def test_records_without_a_key_are_handled_once_each() -> None:
    with Kit(resizer, partitions=3) as kit:
        first = kit.event("picture.uploaded", path="a")
        assert first.key is None
        kit.feed([first, kit.event("picture.uploaded", path="b"), first], partitions=[0, 0, 0])
        assert kit.then_event("picture.resized", {"path": "small/a"}).key is None
        kit.then_event("picture.resized", {"path": "small/b"})
        kit.then_nothing_else()
        kit.restart("lost")
        kit.feed([first], partitions=[0])
        kit.then_nothing_else()
        assert kit.state("seen", first.msg_id) == 1  # its own state: it has no key to share any by


def test_a_key_that_is_there_all_the_same_keeps_its_records_in_order() -> None:
    with Kit(resizer) as kit:
        kit.feed(kit.event("picture.uploaded", path=path)._replace(key=b"album") for path in "abc")
        assert [event.data["path"] for event in kit.events()] == ["small/a", "small/b", "small/c"]
        assert kit.state("seen", "album") == 3


def test_an_ordered_agent_sends_a_record_without_a_key_to_the_error_topic() -> None:
    with Kit(user_events) as kit:
        event = kit.event("comment.created", user_id=1, msg="x")
        kit.feed([event._replace(key=None), event])
        assert kit.then_rejected("BadKey").key is None
        kit.then_event("comment.counted", {"user_id": 1, "count": 1})
        kit.then_nothing_else()


async def test_a_worker_handles_each_record_of_an_unkeyed_topic_once(tmp_path: Path) -> None:
    paths = [str(number) for number in range(40)]
    values = [
        json.dumps({"msg_id": str(uuid.uuid4()), "type": "picture.uploaded", "data": {"path": path}}).encode()
        for path in paths
    ]
    with Place(
        tmp_path, app="tests.behaviour.apps.gallery:app", topics=["pictures", "thumbnails"], agents=["resizer"]
    ) as place:
        await place.send("pictures", [(None, value) for value in values[:20]], 0)
        await place.send("pictures", [(None, value) for value in [*values[20:], values[20]]], 1)
        worker = await asyncio.to_thread(place.worker)

        async def handled() -> bool:
            return sum((await place.committed()).values()) == len(paths) + 1

        await until(handled, 30, "all are handled")
        log = await place.log("thumbnails")
        assert all(log.values()), "both partitions are written"
        made = [record for records in log.values() for record in records]
        assert Counter(json.loads(record.value or b"")["data"]["path"] for record in made) == Counter(
            f"small/{path}" for path in paths
        )
        assert {record.key for record in made} == {None}
        assert worker.stop() == 0
