"""Others read and write our topics with what they have: another consumer group, Kafka's own Java clients."""  # O7

from __future__ import annotations

import json
import uuid
from itertools import pairwise
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from tests.kafka import sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.java_clients import console_consume, console_produce
from tests.kafka.trial import Trial
from tests.oracle.generator import Mix, generate
from tests.oracle.records import COMMENT_COUNTS, OUTPUTS, USER_EVENTS, partition_of
from tests.oracle.truth import read

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


def comment(user: int) -> str:
    """One event as a line of text."""
    return json.dumps({"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": {"user_id": user, "msg": "hi"}})


@pytest.mark.versions
async def test_kafkas_console_clients_write_our_input_and_read_our_outputs(kafka: KafkaCluster, tmp_path: Path) -> None:
    users, each = (21, -3, 1234, 7_000_000_000), 5
    async with Trial(kafka, tmp_path, partitions=5) as trial:
        worker = trial.worker("one")
        await trial.start(worker)
        keyed = [(str(user), comment(user)) for _ in range(each) for user in users]
        await console_produce(kafka.bootstrap, USER_EVENTS, keyed)
        await trial.caught_up(30)
        log = (await read(kafka.bootstrap, [USER_EVENTS]))[USER_EVENTS]
        placed = {(record.key, record.partition) for records in log.values() for record in records}
        assert placed == {(b"%d" % user, partition_of(b"%d" % user, 5)) for user in users}, "Java agrees on partitions"

        lines = await console_consume(kafka.bootstrap, COMMENT_COUNTS, "console", len(keyed))
        await trial.stop(worker)
    counted: dict[str, list[int]] = {}
    for line in lines:
        event = json.loads(line.value)
        assert (event["type"], str(event["data"]["user_id"])) == ("comment.counted", line.key)
        assert line.partition == partition_of(line.key.encode(), 5)
        counted.setdefault(line.key, []).append(event["data"]["count"])
    assert counted == {str(user): list(range(1, each + 1)) for user in users}


async def test_an_unknown_group_reads_every_output_and_changes_nothing_for_us(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    seed = sizes.seed()
    async with Trial(kafka, tmp_path) as trial:
        worker = trial.worker("one")
        await trial.start(worker)
        journal = await trial.write(generate(seed, Mix(events=5_000)))
        async with AIOKafkaConsumer(
            *OUTPUTS, bootstrap_servers=kafka.bootstrap, group_id="stranger", auto_offset_reset="earliest"
        ) as stranger:
            await trial.caught_up(30)
            before = await trial.committed()
            logs = await read(kafka.bootstrap, OUTPUTS)
            there = sum(len(records) for log in logs.values() for records in log.values())
            seen: dict[tuple[str, int], list[int]] = {}
            while sum(map(len, seen.values())) < there:
                for tp, records in (await stranger.getmany(timeout_ms=1_000)).items():
                    seen.setdefault((tp.topic, tp.partition), []).extend(record.offset for record in records)
            await stranger.commit()
        assert all(b == a + 1 for offsets in seen.values() for a, b in pairwise(offsets))
        assert len(trial.takeovers(worker)) == 1, "no rebalance of ours"
        assert await trial.committed() == before
        await trial.verdict(journal)
