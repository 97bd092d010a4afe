"""Whether the cluster answers what the clients of a process ask it, as `Contact` tells it."""

import asyncio
from contextlib import suppress

import pytest
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, SaslAuthenticationFailed

from pipeline.kafka.contact import GIVEN_UP_S, Contact

HERE = ("10.0.0.1", 9092)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def contact(clock: Clock) -> Contact:
    return Contact(clock)


def ask(contact: Contact, what: str = "fetch", error: Exception | None = None, *, who: object = "consumer") -> None:
    with suppress(KafkaConnectionError, NodeNotReadyError), contact.asking(who, what):
        if error is not None:
            raise error


def test_nothing_asked_is_no_silence(contact: Contact) -> None:
    assert contact.longest_silence() is None


def test_silence_lasts_from_the_first_failure_to_the_next_answer(contact: Contact, clock: Clock) -> None:
    for _ in range(5):
        ask(contact, error=KafkaConnectionError("closed"))
        clock.now_s += 3
    silence = contact.longest_silence()
    assert silence is not None
    assert (silence.what, silence.since_s) == ("fetch", 100.0)
    assert silence.error == "KafkaConnectionError: closed"
    ask(contact)
    assert contact.longest_silence() is None


def test_a_request_under_way_is_silence_too(contact: Contact, clock: Clock) -> None:
    with contact.asking("consumer", "heartbeat"):
        clock.now_s += 40
        silence = contact.longest_silence()
        assert silence is not None
        assert (silence.what, silence.since_s, silence.error) == ("heartbeat", 100.0, "no answer yet")
    assert contact.longest_silence() is None


def test_each_kind_needs_an_answer_of_its_own(contact: Contact) -> None:
    ask(contact, "fetch", KafkaConnectionError("closed"))
    ask(contact, "metadata")
    silence = contact.longest_silence()
    assert silence is not None
    assert silence.what == "fetch"


def test_one_broker_that_answers_is_enough(contact: Contact, clock: Clock) -> None:
    with contact.asking("consumer", "fetch"):  # a broker that hangs
        for _ in range(30):
            clock.now_s += 1
            ask(contact, error=KafkaConnectionError("closed"))  # one that is down
            ask(contact)  # and the one that has the leaders now
        silence = contact.longest_silence()
        assert silence is not None
        assert silence.since_s == clock.now_s
    assert contact.longest_silence() is None


def test_what_nobody_asks_for_any_more_is_forgotten(contact: Contact, clock: Clock) -> None:
    ask(contact, error=KafkaConnectionError("closed"))
    clock.now_s += GIVEN_UP_S + 1
    assert contact.longest_silence() is None


async def test_a_request_that_is_cancelled_says_nothing(contact: Contact) -> None:
    async def forever() -> None:
        with contact.asking("consumer", "fetch"):
            await asyncio.Event().wait()

    asking = asyncio.ensure_future(forever())
    await asyncio.sleep(0)
    assert contact.longest_silence() is not None
    asking.cancel()
    await asyncio.wait([asking])
    assert contact.longest_silence() is None


def test_an_answer_that_holds_an_error_is_none(contact: Contact) -> None:
    with contact.asking("consumer", "coordinator") as failed:
        failed(KafkaConnectionError("no coordinator"))
    silence = contact.longest_silence()
    assert silence is not None
    assert silence.error == "KafkaConnectionError: no coordinator"


def test_why_a_broker_is_not_ready_is_told(contact: Contact) -> None:
    contact.connection_failed(HERE, ConnectionRefusedError(111, "Connection refused"))
    ask(contact, error=NodeNotReadyError("node 0"))
    silence = contact.longest_silence()
    assert silence is not None
    assert silence.error == "10.0.0.1:9092: ConnectionRefusedError: [Errno 111] Connection refused"
    assert contact.refusal == ""


def test_who_is_not_let_in_is_told_apart_from_who_gets_no_answer(contact: Contact) -> None:
    contact.connection_failed(HERE, SaslAuthenticationFailed("invalid credentials"))
    assert "10.0.0.1:9092: " in contact.refusal
    assert "invalid credentials" in contact.refusal
    contact.connected()
    assert contact.refusal == ""
