"""The reliable producer's table of error codes is Kafka's own, as its jar prints it."""

from __future__ import annotations

import asyncio
import re
import subprocess

import pytest
from aiokafka import errors as aiokafka_errors

from pipeline.producer.codes import NAMES, Fate, fate_of, teach_aiokafka
from tests.kafka.jars import NEWEST, program, version

pytestmark = [pytest.mark.kafka, pytest.mark.versions]
ROW = re.compile(r"<tr><td>(\w+)</td><td>(-?\d+)</td><td>(True|False)</td>")


async def test_no_code_of_kafkas_table_is_missing_and_what_it_calls_retriable_is_retried() -> None:
    printed = await asyncio.to_thread(
        subprocess.run, program("org.apache.kafka.common.protocol.Errors"),
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    rows = ROW.findall(printed.stdout)
    assert len(rows) > 130
    of_kafka = {int(code): name for name, code, _ in rows}
    assert of_kafka.items() <= NAMES.items()
    if ".".join(map(str, version())) == NEWEST:
        assert of_kafka == NAMES
    teach_aiokafka()
    for name, code, retriable in rows:
        if retriable == "True":
            assert fate_of(aiokafka_errors.for_code(int(code))()) in (Fate.AGAIN, Fate.DOUBTFUL), name
