"""A real worker on the embedded broker: records deleted before it reads them, records behind an open transaction."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from tests.behaviour.place import Place
from tests.kafka import pages, requests
from tests.kafka.waiting import until
from tests.oracle.records import COMMENT_COUNTS, USER_EVENTS

KEY = b"1"
FETCH_UNDER_WAY_S = 0.5
"""A fetch that waits at the broker would still bring the first records."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path, partitions=1, session_timeout_s="30") as place:
        yield place


def comments(count: int) -> list[tuple[bytes, bytes]]:
    def comment() -> bytes:
        event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": 1, "msg": "x"}}
        return json.dumps(event).encode()

    return [(KEY, comment()) for _ in range(count)]


async def test_records_deleted_under_a_frozen_worker_are_named(place: Place) -> None:
    await place.send(USER_EVENTS, comments(10), 0)
    worker = place.worker()
    await place.committed_to(10, USER_EVENTS, 0)
    worker.freeze()
    await asyncio.sleep(FETCH_UNDER_WAY_S)
    await place.send(USER_EVENTS, comments(50), 0)
    async with requests.admin(place.bootstrap) as client:
        await client.delete_records({TopicPartition(USER_EVENTS, 0): RecordsToDelete(40)})
    worker.thaw()
    await place.committed_to(60, USER_EVENTS, 0)
    assert await pages.metric(worker, "hardparts_records_lost_total", topic=USER_EVENTS, partition="0") == 30
    log = worker.log.read_text()
    assert "records 10 to 39 expired before they were read" in log
    assert f"ALERT opened records-lost/{USER_EVENTS}/0: topic='{USER_EVENTS}' partition=0 from=10 to=39" in log
    assert worker.stop() == 0
    assert len((await place.log(COMMENT_COUNTS))[0]) == 10 + 20
    assert f"ALERT closed records-lost/{USER_EVENTS}/0" in worker.log.read_text()


async def test_records_behind_an_open_transaction_are_lag(place: Place) -> None:
    worker = place.worker()
    lag = partial(pages.metric, worker, topic=USER_EVENTS, partition="0")
    async with AIOKafkaProducer(bootstrap_servers=place.bootstrap, transactional_id="foreign") as foreign:
        await foreign.begin_transaction()
        [(key, value)] = comments(1)
        await foreign.send_and_wait(USER_EVENTS, value, key=key, partition=0)
        await place.send(USER_EVENTS, comments(20), 0)

        async def is_lag() -> bool:
            return await lag("hardparts_lag_records") == 21

        await until(is_lag, 20, "what is behind it is lag")
        assert await lag("hardparts_lag_readable_records") == 0
        await foreign.commit_transaction()
    await place.committed_to(22, USER_EVENTS, 0)
    assert worker.stop() == 0
