"""Hostile bytes through a real worker: one error record each, the next good record is processed (E1)."""

import asyncio
import hashlib
import json
import os
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.behaviour.place import Place
from tests.oracle.generator import Made
from tests.oracle.judge import judge
from tests.oracle.lag import wait_for_lag_zero
from tests.oracle.poison import WAYS, Draft
from tests.oracle.records import COMMENT_COUNTS, SOURCES, USER_EVENTS, Record, partition_of
from tests.oracle.writer import write

PARTITIONS = 2
DEEP = 100_000


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path, partitions=PARTITIONS) as place:
        yield place


def good(user: int, msg_id: str | None = None, **more: object) -> bytes:
    event = {"msg_id": msg_id or str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": user, "msg": "ok"}}
    return json.dumps(event | more).encode()


class Touches:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self._path),)


def headers(record: Record) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in record.headers if name.startswith("hp-")}


async def test_every_kind_of_poison_becomes_one_error_record_and_the_next_good_one_counts(
    place: Place, tmp_path: Path
) -> None:
    bad: list[Made] = []
    for number, way in enumerate(WAYS, 1):
        one = way(Draft(b"%d" % number, str(number), str(uuid.uuid4())), Random(number))
        bad.append(Made(USER_EVENTS, one.key, one.value, one.headers, one.kind))
    event, key, touched = good(1)[:-1], b"1", tmp_path / "touched"
    brackets = b"[" * DEEP + b"]" * DEEP
    values = {
        "deep list": brackets,
        "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        "deep unknown field": event + b',"extra":' + brackets + b"}",
        "msg_id of 800 kB": good(1, "0" * 800_000),
        "pickle": pickle.dumps(Touches(touched)),
        "YAML": f"!!python/object/apply:os.mkdir ['{touched}']".encode(),
        "gzip as a value": b"\x1f\x8b\x08" + bytes(1000),
        "line breaks and colours": b'{"msg_id":"\r\n\x1b[31mready partitions=9\x1b[0m"}',
        "the same, escaped": b'{"msg_id":"\\r\\n\\u001b[31mready\\u202e","type":"\\u001b]0;x\\u0007","data":{}}',
    }
    bad += [Made(USER_EVENTS, key, value, (), kind) for kind, value in values.items()]
    bad += [Made(USER_EVENTS, None, None, (), "key and value both null")]
    made = []
    for number, one in enumerate(bad, 1):
        made += [one, Made(USER_EVENTS, b"%d" % number, good(number), (), "good")]
    worker = place.worker()
    journal = await write(place.bootstrap, made, PARTITIONS)
    await wait_for_lag_zero(place.bootstrap, place.app_id, SOURCES, 60)
    report = await judge(place.bootstrap, place.app_id, journal=journal, audit=True)
    assert report.ok, str(report)
    failed = [record for log in (await place.log(f"{place.app_id}.errors")).values() for record in log]
    assert len(failed) == len(bad) >= 55
    assert sorted((one.key or b"", one.value or b"") for one in failed) == sorted(
        (one.key or b"", one.value or b"") for one in bad
    )
    counted = [record for log in (await place.log(COMMENT_COUNTS)).values() for record in log]
    assert len(counted) == len(bad)
    assert not touched.exists()
    assert worker.stop() == 0
    said = worker.log.read_text()
    assert "\x1b" not in said
    assert len([line for line in said.splitlines() if line.startswith("ready")]) == 1


async def test_what_does_not_fit_into_an_error_record_is_named_by_hash_size_and_place(place: Place) -> None:
    limit = 1_048_588  # what Kafka takes as one record batch when nobody says otherwise
    user = b"2"
    assert partition_of(user, PARTITIONS) == 0
    near = b"x" * (limit - 200)
    bomb = b"[" * 40_000_000
    swollen = good(2, extra="y" * 15_000_000)  # a good event: what it holds too much of isn't passed on
    unread = good(2, extra="y" * 17_000_000)  # more than is ever parsed
    long_key = b"k" * 200_000
    await place.send(USER_EVENTS, [(user, near), (user, good(2))], 0)
    await place.send(USER_EVENTS, [(user, bomb), (user, unread), (user, swollen)], 0, compression="gzip")
    await place.send(USER_EVENTS, [(long_key, b"y" * 900_000), (user, good(2))], 0, compression="gzip")
    worker = await asyncio.to_thread(place.worker)
    await place.committed_to(7, USER_EVENTS, 0)
    failed = sorted((r for log in (await place.log(f"{place.app_id}.errors")).values() for r in log), key=offset_of)
    assert [offset_of(record) for record in failed] == [0, 2, 3, 5]
    values, keys = (near, bomb, unread, b"y" * 900_000), (user, user, user, long_key)
    for record, value, key in zip(failed, values, keys, strict=True):
        summary = json.loads(record.value or b"")
        assert summary == {
            "sha256": hashlib.sha256(value).hexdigest(),
            "value_bytes": len(value),
            "key_bytes": len(key),
            "topic": USER_EVENTS,
            "partition": 0,
            "offset": offset_of(record),
        }
        assert headers(record)["hp-omitted"] == "value"
        assert headers(record)["hp-error-class"] == ("TooLarge" if value in (bomb, unread) else "MalformedJson")
        assert record.key == (key if key is user else None)
    counted = (await place.log(COMMENT_COUNTS))[0]
    assert [json.loads(record.value or b"")["data"]["count"] for record in counted] == [1, 2, 3]
    assert worker.stop() == 0


def offset_of(record: Record) -> int:
    return int(headers(record)["hp-source-offset"])
