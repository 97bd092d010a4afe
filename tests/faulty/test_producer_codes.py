"""Each error code in a broker's answer to the reliable producer, through aiokafka: retried or reported by name."""

from __future__ import annotations

import asyncio
import os

import pytest
from aiokafka import errors as aiokafka_errors

from pipeline.core.backoff import Backoff
from pipeline.producer import ReliableProducer, Undeliverable, Undelivered
from pipeline.producer.codes import NAMES, Fate, fate_of, teach_aiokafka
from tests.faulty.broker import FaultyBroker, binary
from tests.goprogram import NoGo
from tests.kafka.requests import create_topics
from tests.oracle.truth import read

pytestmark = pytest.mark.timeout(900)  # the first run compiles the broker
TOPIC = "letters"
THERE_ALREADY = 46
ANSWERS = {Fate.AGAIN: 2, Fate.BISECT: 1, Fate.REFUSED: 1, Fate.DOUBTFUL: 5}
"""How many answers with the error are the last word, or (again) are not."""


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    try:
        binary()
    except NoGo as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the faulty broker can't be compiled: {reason}")


async def test_no_code_in_an_answer_drops_a_message_unheard() -> None:
    teach_aiokafka()
    told: list[Undelivered] = []
    delivered, reported = [], []
    with FaultyBroker() as broker:
        await create_topics(broker.bootstrap, {TOPIC: 1}, 1, {})
        async with ReliableProducer(
            {"bootstrap_servers": broker.bootstrap},
            linger_s=0, backoff=Backoff(0.001, 0.002), on_undelivered=told.append,
        ) as producer:  # fmt: skip
            await asyncio.wait_for(producer.produce(TOPIC, 0, b"first"), 60)
            for code in sorted(NAMES.keys() - {0}):
                fate = Fate.AGAIN if code == THERE_ALREADY else fate_of(aiokafka_errors.for_code(code)())
                count = 1 if code == THERE_ALREADY else ANSWERS[fate]
                fault = broker.fault("Produce", TOPIC, str(code), count)
                payload = b"%d" % code
                (result,) = await asyncio.wait_for(
                    asyncio.gather(producer.produce(TOPIC, 0, payload), return_exceptions=True), 120
                )
                if fate is Fate.AGAIN:
                    assert result[:2] == (TOPIC, 0), NAMES[code]
                    delivered.append(payload)
                else:
                    assert isinstance(result, Undeliverable), NAMES[code]
                    assert (result.name, result.code) == (NAMES[code].lower(), code)
                    assert (told[-1].error, told[-1].code, told[-1].value) == (result.name, code, payload)
                    reported.append(payload)
                assert fault.hits() == count, f"{NAMES[code]} was answered"
        log = [record.value for record in (await read(broker.bootstrap, [TOPIC]))[TOPIC][0]]
    assert len(told) == len(reported)
    assert len(delivered) + len(reported) == len(NAMES) - 1
    there = b"%d" % THERE_ALREADY  # the broker says that it has this one, and aiokafka takes its word
    assert log == [b"first", *(payload for payload in delivered if payload != there)]
