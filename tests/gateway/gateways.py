"""Gateways for tests: in this process on a scripted cluster, or as processes of their own."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp

from agents.topics import team_events, user_events
from pipeline.core.topic import Catalogue, Topic
from pipeline.gateway.server import running
from pipeline.runtime.app import App
from pipeline.runtime.settings import read_settings
from tests.behaviour.commandline import ROOT
from tests.producer.scripted import Cluster, ScriptedLink

CONTRACTS = ROOT / "agents" / "contracts"
TOPIC, PARTITIONS = "user-events", 3


def comment(user: object = 1, msg: str = "hello", **more: object) -> dict[str, Any]:
    """An event of `user-events` with a msg_id of its own."""
    data = {"user_id": user, "msg": msg}
    return {"msg_id": str(uuid.uuid4()), "type": "comment.created", "data": data, **more}


@dataclass
class Answer:
    """What a page answered."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        """Its JSON."""
        return json.loads(self.text)


class Client:
    """Asks one gateway. `async with Client(url) as ask: await ask("GET", "/health/ready")`."""

    def __init__(self, url: str, **headers: str) -> None:
        self.url, self.headers = url, headers

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers=self.headers, auto_decompress=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def __call__(self, method: str, path: str, body: bytes | object = None, **headers: str) -> Answer:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        async with self._session.request(method, self.url + path, data=data, headers=headers) as answer:
            return Answer(answer.status, dict(answer.headers), await answer.text())

    async def post(self, *events: object, topic: str = TOPIC) -> Answer:
        """One event, or a list of several."""
        return await self("POST", f"/events/{topic}", events[0] if len(events) == 1 else list(events))

    async def sample(self, name: str) -> float:
        """A metric, by its name with its labels; 0 for labels that it doesn't have yet."""
        for line in (await self("GET", "/metrics")).text.splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        assert "{" in name, f"no {name}"
        return 0.0

    async def waiting(self) -> float:
        """How many messages are in custody."""
        return await self.sample('hardparts_custody_messages{place="memory"}') + await self.sample(
            'hardparts_custody_messages{place="disk"}'
        )


def application(directory: Path, topics: Iterable[Topic] = (user_events, team_events), **settings: object) -> App:
    """An application that has these topics and no agent."""
    given = {"data_dir": directory / "data", "instance": "one", "gateway_port": 0, "broker": "kafka://127.0.0.1:1"}
    return App(
        catalogue=Catalogue.of(topics), modules=[], contracts=CONTRACTS, settings=read_settings(**(given | settings))
    )


@asynccontextmanager
async def gateway(
    directory: Path,
    cluster: Cluster,
    topics: Iterable[Topic] = (user_events, team_events),
    link: ScriptedLink | None = None,
    **settings: object,
) -> AsyncIterator[Client]:
    """One in this process, writing to a scripted cluster."""
    app = application(directory, topics, **settings)
    async with running(app, link or ScriptedLink(cluster)) as url, Client(url) as ask:
        yield ask


def scripted(*topics: str) -> Cluster:
    """A cluster with these topics."""
    return Cluster(dict.fromkeys(topics or (TOPIC, "team-events"), PARTITIONS))


def msg_ids(values: Iterable[bytes | None]) -> list[str]:
    """Of events, in their order."""
    return [json.loads(value or b"")["msg_id"] for value in values]


def in_topic(cluster: Cluster, topic: str = TOPIC) -> list[str]:
    """The msg_ids in a scripted topic, partition by partition."""
    return [id_ for (name, _), log in sorted(cluster.logs.items()) if name == topic for id_ in msg_ids(log)]
