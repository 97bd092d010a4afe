"""When a worker says that Kafka doesn't answer, and when it ends because no broker lets it in any more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import SaslAuthenticationFailed

from pipeline.core.errors import Misconfigured
from pipeline.kafka.contact import Silence
from pipeline.kafka.memory import ClusterMemory
from pipeline.runtime import watch as module
from pipeline.runtime.alerts import Alerts
from pipeline.runtime.security import NotLetIn
from pipeline.runtime.watch import Watch
from tests.kafka.waiting import until

HERE = ("127.0.0.1", 9092)


class Units:
    """As many as wait for an acknowledgement, since when each does (time.monotonic)."""

    def __init__(self) -> None:
        self.context = SimpleNamespace(alerts=Alerts(), fatal=self._end, holds_lease=lambda: False)
        self.waiting_since: list[float] = []
        self.ended_by: list[BaseException] = []

    def _end(self, error: BaseException) -> None:
        self.ended_by.append(error)

    def __iter__(self) -> Any:
        return iter([
            SimpleNamespace(owner=SimpleNamespace(waiting_since=since, waits_for=["t[0]"]))
            for since in self.waiting_since
        ])  # fmt: skip


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch) -> Units:
    monkeypatch.setattr(module, "EVERY_S", 0.01)
    monkeypatch.setattr(module, "WAITING_MAX_S", 0.2)
    return Units()


@contextlib.asynccontextmanager
async def watched(
    units: Units,
    cluster: ClusterMemory | None = None,
    silence: Callable[[], Silence | None] = lambda: None,
    let_in: Callable[[], Any] | None = None,
    refused_max_s: float = 0.2,
) -> AsyncIterator[Watch]:
    async def fine() -> None:
        pass

    watch = Watch(
        cast(Any, units), cluster or ClusterMemory(), group_failure=lambda: None, takeover_trouble=lambda: None,
        sources_silence=silence, let_in=let_in or fine, refused_max_s=refused_max_s,
    )  # fmt: skip
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_the_alert_closes_on_a_worker_that_always_waits_for_some_ack(units: Units) -> None:
    now = asyncio.get_running_loop().time  # time.monotonic
    open_ = units.context.alerts.open
    units.waiting_since = [now()]
    async with watched(units):
        await until(lambda: "broker" in open_, 10, "the alert")
        for _ in range(1000):  # the backlog: at each look another ack is on its way
            units.waiting_since = [now()]
            if "broker" not in open_:
                break
            await asyncio.sleep(0.01)
        assert "broker" not in open_


async def test_silence_of_the_sources_is_told_and_over_when_they_answer(units: Units) -> None:
    silences: list[Silence | None] = [
        Silence("where the sources end", asyncio.get_running_loop().time(), "TimeoutError")
    ]
    open_ = units.context.alerts.open
    async with watched(units, silence=lambda: silences[-1]) as watch:
        await until(lambda: "broker" in open_, 10, "the alert")
        assert open_["broker"]["unanswered"] == "where the sources end"
        assert watch.told().endswith("(where the sources end): TimeoutError")
        silences.append(None)
        await until(lambda: "broker" not in open_, 10, "its end")
        assert watch.told() == ""


@pytest.mark.parametrize(
    ("error", "ends"),
    [(None, False), (NotLetIn("refused"), True), (Misconfigured("the password's file is empty"), False)],
)
async def test_a_worker_ends_only_when_no_broker_lets_it_in(units: Units, error: Exception | None, ends: bool) -> None:
    cluster, asked = ClusterMemory(), []
    cluster.contact.connection_failed(HERE, SaslAuthenticationFailed("invalid credentials"))

    async def let_in() -> None:
        asked.append(error)
        if error is not None:
            raise error

    silence = Silence("fetch", asyncio.get_running_loop().time(), "refused")
    async with watched(units, cluster, lambda: silence, let_in):
        await until(lambda: len(asked) > 2 or units.ended_by, 10, "brokers were asked")
    assert units.ended_by == ([error] if ends else [])


async def test_a_password_in_a_file_may_be_changed_for_minutes(units: Units, tmp_path: Path) -> None:
    cluster, asked = ClusterMemory(), []
    cluster.contact.connection_failed(HERE, SaslAuthenticationFailed("invalid credentials"))

    async def let_in() -> None:
        asked.append("")
        raise NotLetIn("refused")

    silence = Silence("fetch", asyncio.get_running_loop().time(), "refused")
    async with watched(units, cluster, lambda: silence, let_in, refused_max_s=300):
        await until(lambda: len(asked) > 2, 10, "brokers were asked again and again")
    assert units.ended_by == []
