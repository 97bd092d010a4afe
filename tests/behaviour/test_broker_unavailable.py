"""A worker with nothing in hand while no broker answers: it says so, and says it once in a while only."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.broker import EmbeddedBroker
from tests.behaviour.place import Place
from tests.kafka import pages
from tests.kafka.waiting import until
from tests.kafka.webhook import Webhook
from tests.oracle.process import Worker

ALERT = "broker"
LINES_MAX = 30
"""Of an outage of half a minute: a dozen different ones, some of them twice."""


pytestmark = pytest.mark.slow


@pytest.fixture
def broker(tmp_path: Path) -> EmbeddedBroker:
    return EmbeddedBroker(data=tmp_path / "broker")


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as webhook:
        yield webhook


async def unavailable(worker: Worker, webhook: Webhook) -> str:
    """Why the worker isn't ready, once it says so and the alert is open."""
    reasons: list[str] = []

    async def said() -> bool:
        answer = await pages.ready(worker)
        reasons.append(answer.get("reason", ""))
        return webhook.states(ALERT) == ["open"] and not answer["ready"]

    await until(said, 60, "the alert for Kafka, and a worker that isn't ready")
    return reasons[-1]


async def available(worker: Worker, webhook: Webhook) -> None:
    async def said() -> bool:
        return webhook.states(ALERT) == ["open", "closed"] and bool((await pages.ready(worker))["ready"])

    await until(said, 60, "a worker that is ready, the alert closed")


async def test_an_idle_worker_says_that_no_broker_answers(
    tmp_path: Path, broker: EmbeddedBroker, webhook: Webhook
) -> None:
    with Place(tmp_path, broker=broker, alert_webhook=webhook.url) as place:
        worker = place.worker()
        port, before = broker.port, worker.log.read_text()
        broker.stop()
        reason = await unavailable(worker, webhook)
        lines = worker.log.read_text().removeprefix(before).splitlines()
        successor = EmbeddedBroker(data=tmp_path / "broker", port=port)
        with successor:
            await available(worker, webhook)
            assert worker.stop() == 0
    assert re.search(r"Kafka has not answered for \d+ s \(\w+\): 127\.0\.0\.1:\d+: ConnectionRefusedError", reason)
    assert 1 < len(lines) <= LINES_MAX, "\n".join(lines)


async def test_an_idle_worker_says_that_a_broker_hangs(
    tmp_path: Path, broker: EmbeddedBroker, webhook: Webhook
) -> None:
    with Place(tmp_path, broker=broker, alert_webhook=webhook.url) as place:
        worker = place.worker()
        assert broker.pid is not None
        pid = broker.pid
        try:
            os.kill(pid, signal.SIGSTOP)
            reason = await unavailable(worker, webhook)
        finally:
            os.kill(pid, signal.SIGCONT)
        await available(worker, webhook)
        assert worker.stop() == 0
    assert "Kafka has not answered for" in reason
