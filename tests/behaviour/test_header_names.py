"""Header names that aren't UTF-8: such a record is judged like any other, and nothing around it is lost (E1)."""

import asyncio
import json
import struct
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.consumer.fetcher import READ_UNCOMMITTED
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from pipeline.runtime.readable import Unreadable, _KeptRecords, _PartitionRecords
from tests.behaviour.place import Place
from tests.oracle.records import COMMENT_COUNTS, USER_EVENTS, partition_of

USER = b"2"
CRC_AT, ATTRIBUTES_AT, RECORDS_AT = 17, 21, 61
PLACEHOLDER, NAME = "placeholder", b"place\xff\xfe\xc3\x28er"


def sealed(batch: bytes) -> bytes:
    """A record batch with its checksum made right again."""
    checksum = struct.pack(">I", calc_crc32c(batch[ATTRIBUTES_AT:]))
    return batch[:CRC_AT] + checksum + batch[ATTRIBUTES_AT:]


def spoilt(batch: bytes) -> bytes:
    """Its header names no longer UTF-8."""
    assert PLACEHOLDER.encode() in batch
    return sealed(batch.replace(PLACEHOLDER.encode(), NAME))


def batch(first: int, values: Sequence[bytes]) -> bytes:
    """A record batch from offset `first` on."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for number, value in enumerate(values):
        builder.append(number, 1_700_000_000_000, None, value, [(PLACEHOLDER, value)])
    return struct.pack(">q", first) + bytes(builder.build())[8:]


def parsed(data: bytes, offset: int) -> Iterator[Any]:
    tp = TopicPartition("t", 3)
    return _PartitionRecords(tp, _KeptRecords(data), None, offset, None, None, True, READ_UNCOMMITTED)


def test_a_response_with_such_names_gives_each_record_once_from_the_offset_asked_for() -> None:
    data = batch(10, [b"a", b"b"]) + spoilt(batch(12, [b"c", b"d", b"e"])) + batch(15, [b"f"])
    records = list(parsed(data, 11))
    assert [(record.offset, record.value) for record in records] == [
        (11, b"b"), (12, b"c"), (13, b"d"), (14, b"e"), (15, b"f"),
    ]  # fmt: skip
    assert [record.headers[0][0] for record in records] == [
        PLACEHOLDER, *[r"place\xff\xfe\xc3(er"] * 3, PLACEHOLDER,
    ]  # fmt: skip
    assert records[1].headers[0][1] == b"c"


def test_bytes_that_are_no_records_are_named_by_their_place() -> None:
    broken = bytearray(batch(12, [b"c"]))
    broken[RECORDS_AT] += 2  # the length of its record
    for bad in (bytes(broken), sealed(bytes(broken))):
        rest = parsed(batch(10, [b"a", b"b"]) + bad, 10)
        assert [next(rest).offset, next(rest).offset] == [10, 11]
        with pytest.raises(Unreadable, match=r"^t\[3\]@12 can't be read: CorruptRecordException"):
            next(rest)


def good(**more: object) -> bytes:
    event = {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": 2, "msg": "ok"}}
    return json.dumps(event | more).encode()


async def test_a_worker_counts_what_is_good_and_sends_the_rest_to_the_error_topic(tmp_path: Path) -> None:
    with Place(tmp_path) as place:
        partition = partition_of(USER, 2)
        values = [(good(), ""), (good(), PLACEHOLDER), (b"{", PLACEHOLDER), (good(), "")]
        async with AIOKafkaProducer(bootstrap_servers=place.bootstrap, acks="all") as producer:
            builder = producer.create_batch()
            for value, name in values:
                headers = [(name, b"1")] if name else []
                assert builder.append(timestamp=None, key=USER, value=value, headers=headers)
            build = builder._build
            builder._build = lambda: bytearray(spoilt(bytes(build())))
            await (await producer.send_batch(builder, USER_EVENTS, partition=partition))
        await place.send(USER_EVENTS, [(USER, good())], partition)
        worker = await asyncio.to_thread(place.worker)
        await place.committed_to(5, USER_EVENTS, partition)
        counted = (await place.log(COMMENT_COUNTS))[partition]
        assert [json.loads(record.value or b"")["data"]["count"] for record in counted] == [1, 2, 3, 4]
        failed = [record for log in (await place.log(f"{place.app_id}.errors")).values() for record in log]
        assert [(record.value, dict(record.headers)["hp-error-class"]) for record in failed] == [
            (b"{", b"MalformedJson")
        ]
        assert worker.stop() == 0
