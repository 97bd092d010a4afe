"""A takeover that gets no answer says what it waits for, on the ready page and as one alert, and tries again (E3)."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faust.types import TP

from agents import topics
from pipeline.broker import EmbeddedBroker
from pipeline.core.errors import Misconfigured
from pipeline.core.topic import Catalogue
from pipeline.runtime import security, takeover, watch
from pipeline.runtime.agent import Agent
from pipeline.runtime.app import App
from pipeline.runtime.ownership import Owner, ProducerBroken
from pipeline.runtime.web import Pages
from tests.kafka.waiting import until

CONTRACTS = Path(__file__).parents[2] / "agents" / "contracts"
AWAY = "transaction coordinator or leader of waits-small-changelog[0] away"


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """`host:port` of something that takes connections and never says a word."""

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    yield f"{host}:{port}"
    server.close()


def application(broker: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[App, Agent]:
    for name, value in {"BROKER": broker, "DATA_DIR": str(directory), "APP_ID": "waits"}.items():
        monkeypatch.setenv(f"HARDPARTS_{name}", value)
    app = App(catalogue=Catalogue.of([topics.user_events]), modules=[], contracts=CONTRACTS)
    return app, Agent(app, "small", sources=[topics.user_events])


def recovery(app: App) -> takeover.Takeover:
    return cast(takeover.Tables, app.tables).recovery


async def test_it_says_what_it_waits_for_and_gives_each_try_up_in_time(
    silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "OWN_WITHIN_S", 0.5)
    monkeypatch.setattr(watch, "WAITING_MAX_S", 0.2)
    monkeypatch.setattr(watch, "EVERY_S", 0.05)
    app, agent = application(silent, tmp_path, monkeypatch)
    taking, alerts = recovery(app), app.context.alerts.open
    looking = watch.Watch(
        app.units,
        app.cluster_memory,
        group_failure=lambda: None,
        takeover_trouble=lambda: taking.trouble,
        sources_silence=lambda: None,
        let_in=partial(security.refusal, app.settings),
    )
    watching = asyncio.create_task(looking.run())

    async def reason() -> str:
        return str(json.loads(cast(Any, await Pages(app).ready(cast(web.Request, None))).body)["reason"])

    assert await reason() == "taking partitions over"
    own = asyncio.create_task(taking._own(agent.definition, 0, []))
    await until(lambda: "takeover" in alerts, 10, "the alert")
    assert alerts["takeover"]["reason"] == f"waits/small/0: waiting for ownership: {AWAY}"
    assert await reason() == f"taking partitions over: waits/small/0: waiting for ownership: {AWAY}"
    with pytest.raises(ProducerBroken, match=r"^waits/small/0: no ownership within 0 s: transaction coordinator"):
        await own
    await until(lambda: "takeover" not in alerts, 10, "the end of the alert")
    trying = asyncio.create_task(taking._patiently(lambda: taking._own(agent.definition, 0, [])))
    await until(lambda: "no ownership" in (taking.trouble or (0, ""))[1], 10, "the first try given up")
    trying.cancel()
    await asyncio.wait([trying])
    assert taking.trouble is None
    watching.cancel()


async def test_cancelled_it_leaves_no_producer_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two units is owned, the other's answer is waited for, when the assignment goes away."""
    started: list[AIOKafkaProducer] = []
    first_is_owned = asyncio.Event()
    own, take = takeover.Takeover._own, Owner.take

    async def noted(*arguments: Any) -> Owner:
        owner = await take(*arguments)
        started.append(owner._producer)
        return owner

    async def second_waits(self: Any, agent: Any, number: int, owners: list[Owner]) -> Any:
        if number == 1:
            await asyncio.Event().wait()
        owned = await own(self, agent, number, owners)
        first_is_owned.set()
        return owned

    monkeypatch.setattr(Owner, "take", noted)
    monkeypatch.setattr(takeover.Takeover, "_own", second_waits)
    with EmbeddedBroker() as broker:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("waits-small-changelog", 2, 1)])
        await admin.close()
        app, _ = application(broker.bootstrap, tmp_path, monkeypatch)
        app.context.holds_lease = lambda: True
        assigned = {TP(topics.user_events.name, number) for number in range(2)}
        taking = asyncio.create_task(recovery(app)._own_all(assigned))
        await asyncio.wait_for(first_is_owned.wait(), 20)
        taking.cancel()
        await asyncio.wait([taking])
        assert taking.cancelled()
        assert [producer._closed for producer in started] == [True]


async def test_a_start_that_is_revoked_before_it_begins_never_begins(
    silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, _ = application(silent, tmp_path, monkeypatch)
    taking = recovery(app)
    await taking.on_rebalance(set(), set(), set(), 1)
    assert taking.signal_recovery_start.is_set()
    await taking.revoke_all()
    assert not taking.signal_recovery_start.is_set()


def test_an_agent_that_no_record_would_come_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app, _ = application("127.0.0.1:1", tmp_path, monkeypatch)
    app.require_own_agents()

    @app.agent(app.topic("elsewhere"), name="plain")
    async def plain(stream: Any) -> None:
        async for _ in stream:
            pass

    with pytest.raises(Misconfigured, match=r"^agent 'plain' is made by @app\.agent"):
        app.require_own_agents()
