"""Every error code of the protocol is retried, or reported by name; none is dropped."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import errors as aiokafka_errors
from aiokafka.errors import BrokerResponseError

from pipeline.core.backoff import Backoff
from pipeline.producer import ReliableProducer, Undeliverable, Undelivered
from pipeline.producer.codes import NAMES, Fate, fate_of, name_of, teach_aiokafka
from tests.producer.scripted import Cluster, ScriptedLink

teach_aiokafka()
OURS = sorted(
    code for code in NAMES if code not in (0, 46)
)  # no error, and "is there already", which aiokafka confirms
CLIENT = sorted(
    (
        error
        for error in vars(aiokafka_errors).values()
        if isinstance(error, type)
        and issubclass(error, aiokafka_errors.KafkaError)
        and not issubclass(error, BrokerResponseError)
    ),
    key=lambda error: error.__name__,
)


def error_of(code: int) -> BrokerResponseError:
    error: BrokerResponseError = aiokafka_errors.for_code(code)()
    return error


@pytest.mark.parametrize("code", OURS)
def test_each_code_has_a_class_of_its_own_and_the_protocols_name(code: int) -> None:
    error = error_of(code)
    assert error.errno == code
    assert name_of(error) == NAMES[code]


def test_a_code_that_nobody_knows_yet_is_named_by_its_number() -> None:
    unknown = type("New", (BrokerResponseError,), {"errno": 999})()
    assert name_of(unknown) == "CODE_999"
    assert fate_of(unknown) is Fate.DOUBTFUL


def test_what_aiokafka_calls_retriable_is_never_given_up() -> None:
    for code in OURS:
        if error_of(code).retriable:
            assert fate_of(error_of(code)) is Fate.AGAIN, NAMES[code]


@pytest.mark.parametrize("code", OURS)
async def test_a_request_that_gets_it_is_retried_or_reported_by_name(code: int) -> None:
    cluster = Cluster({"letters": 1})
    fate = fate_of(error_of(code))
    lasting = {Fate.AGAIN: 7, Fate.BISECT: 1, Fate.REFUSED: 1, Fate.DOUBTFUL: 5}[fate]
    cluster.errors = [error_of(code) for _ in range(lasting)]
    quick = Backoff(0.0001, 0.0002)
    told: list[Undelivered] = []
    async with ReliableProducer(
        {}, link=ScriptedLink(cluster), linger_s=0, backoff=quick, on_undelivered=told.append
    ) as producer:
        first = producer.produce("letters", 0, b"1")
        results = await asyncio.wait_for(asyncio.gather(first, return_exceptions=True), 60)
        await asyncio.wait_for(producer.produce("letters", 0, b"2"), 60)
    kept = [(one.error, one.code, one.value) for one in told]
    assert cluster.errors == []
    if fate is Fate.AGAIN:
        assert cluster.logs["letters", 0] == [b"1", b"2"]
        assert kept == []
        return
    assert cluster.logs["letters", 0] == [b"2"]
    (error,) = results
    assert isinstance(error, Undeliverable)
    assert (error.name, error.code) == (NAMES[code].lower(), code)
    assert kept == [(NAMES[code].lower(), code, b"1")]


async def test_a_message_that_was_given_up_leaves_the_next_one_all_its_tries() -> None:
    cluster = Cluster({"letters": 1})
    quick = Backoff(0.0001, 0.0002)
    async with ReliableProducer({}, link=ScriptedLink(cluster), linger_s=0, backoff=quick) as producer:
        cluster.errors = [error_of(-1) for _ in range(5)]
        with pytest.raises(Undeliverable):
            await asyncio.wait_for(producer.produce("letters", 0, b"1"), 60)
        cluster.errors = [error_of(-1) for _ in range(4)]
        await asyncio.wait_for(producer.produce("letters", 0, b"2"), 60)
    assert cluster.logs["letters", 0] == [b"2"]


@pytest.mark.parametrize("error", CLIENT)
def test_an_error_of_the_client_itself_is_retried(error: type[aiokafka_errors.KafkaError]) -> None:
    assert fate_of(error()) is Fate.AGAIN
