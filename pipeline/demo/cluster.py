"""The broker and the topics of a demo: an embedded one with fresh topics, or a given one as it stands."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from pipeline.broker.binary import BrokerUnavailableError
from pipeline.broker.process import BrokerStartError, EmbeddedBroker
from pipeline.closing import stopped
from pipeline.core.errors import HardpartsError, Misconfigured
from pipeline.demo.names import INPUTS, OUTPUTS, Names
from pipeline.demo.outage import database_url
from pipeline.demo.readback import Offsets
from pipeline.demo.workers import environment, run_once
from pipeline.runtime.security import SETTINGS, client_security
from pipeline.runtime.settings import parse_brokers, read_settings

PARTITIONS = 4
SESSION_TIMEOUT_S = 6
"""How soon a killed worker is missed; real Kafka allows no less without changing the broker."""

CONNECT_WITHIN_S = 10.0


class NoBroker(HardpartsError):
    """The broker didn't start, or doesn't answer."""


@dataclass(frozen=True)
class Cluster:
    """Where everything is. client: what each of the demo's Kafka clients is given."""

    url: str
    client: Mapping[str, Any]
    names: Names
    partitions: int
    directory: Path
    broker: EmbeddedBroker | None = None

    @property
    def embedded(self) -> bool:
        """Whether the broker is the demo's own."""
        return self.broker is not None

    def require_alive(self) -> None:
        """NoBroker when the embedded broker has ended."""
        if self.broker is not None and not self.broker.running:
            raise NoBroker("the embedded broker ended by itself")

    @property
    def database(self) -> Path:
        """The read model's file."""
        return self.directory / "read-model.sqlite3"

    def environment(self, **settings: str) -> dict[str, str]:
        """For the processes of the demo."""
        given = {} if self.embedded else {name: os.environ.get(f"HARDPARTS_{name.upper()}") for name in SETTINGS}
        return environment(self.settings() | {name: value for name, value in given.items() if value} | settings)

    def settings(self) -> dict[str, str]:
        """What a command needs to be told to work on this demo; names without HARDPARTS_."""
        found = {"broker": self.url, "data_dir": str(self.directory), "partitions": str(self.partitions)}
        if not self.embedded:
            found["app_id"] = self.names.app_id
            found["replication"] = os.environ.get("HARDPARTS_REPLICATION", "1")
        return found | {
            "database_url": database_url(self.database), "session_timeout_s": str(SESSION_TIMEOUT_S),
        }  # fmt: skip


@asynccontextmanager
async def cluster(broker: str | None, directory: Path) -> AsyncIterator[Cluster]:
    """The given broker, or an embedded one on a free port that ends with the block. NoBroker, Misconfigured."""
    if broker is not None:
        names = Names(f"hardparts-demo-{secrets.token_hex(3)}")  # a new group: nobody else's records are touched
        client = _client(broker, **client_security(read_settings(only=SETTINGS, broker=broker)))
        yield Cluster(broker, client, names, await _partitions(client), directory)
        return
    embedded = EmbeddedBroker()
    try:
        await asyncio.to_thread(embedded.start)
    except (BrokerStartError, BrokerUnavailableError) as error:
        raise NoBroker(f"{error}; the demo takes a running one by --broker kafka://host:port") from error
    try:
        yield Cluster(embedded.url, _client(embedded.url), Names("hardparts"), PARTITIONS, directory, embedded)
    finally:
        await asyncio.to_thread(embedded.stop)


async def make_topics(where: Cluster) -> Offsets:
    """Run `hardparts topics apply`; where each input and output ends before anything is fed.

    The group begins there, so that what a given broker holds already is neither read nor judged.
    """
    await run_once(where.environment(), "topics", "apply")
    consumer = AIOKafkaConsumer(**where.client, group_id=where.names.app_id, enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for topic in (*INPUTS, *OUTPUTS) for number in range(where.partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        if any(ends.values()):
            await consumer.commit(ends)
    finally:
        await stopped(consumer.stop())
    return {(place.topic, place.partition): end for place, end in ends.items()}


async def _partitions(client: Mapping[str, Any]) -> int:
    """As many as the input has already on this broker."""
    admin = AIOKafkaAdminClient(**client)
    try:
        await asyncio.wait_for(admin.start(), CONNECT_WITHIN_S)
        found = await admin.describe_topics([INPUTS[0]])
    except (KafkaError, TimeoutError, OSError) as error:
        where = ",".join(client["bootstrap_servers"])
        raise NoBroker(f"no broker answers at {where}: name one that runs, or leave --broker out") from error
    finally:
        await stopped(admin.close())
    return len(found[0]["partitions"]) or PARTITIONS


def _client(url: str, **security: Any) -> dict[str, Any]:
    try:
        return {"bootstrap_servers": parse_brokers(url), "client_id": "hardparts-demo", **security}
    except ValueError as error:
        raise Misconfigured(f"--broker: {error}") from error
