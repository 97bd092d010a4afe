"""What the cluster is asked about topics, and told to change: by aiokafka's admin client, bounded in time.

aiokafka knows only the old AlterConfigs, which resets every setting that it isn't told; the incremental request is
declared here.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeVar

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

from pipeline.core.errors import HardpartsError
from pipeline.core.failure import line_of
from pipeline.kafka.memory import ClusterMemory
from pipeline.runtime.security import DENIED, client_security, refusal
from pipeline.runtime.settings import Settings

CONNECT_TIMEOUT_S = 8.0
REQUEST_TIMEOUT_S = 8.0
CHANGE_TIMEOUT_S = 30.0
RETRY_FIRST_S, RETRY_CAP_S = 0.05, 1.0
UNKNOWN_TOPIC = 3
NO_GROUP = 69
ALREADY_EXISTS = 36
SET = 0
GROUP, TRANSACTION = 0, 1
"""Kinds of coordinators."""

T = TypeVar("T")


class BrokerAway(HardpartsError):
    """No broker answers; the message names the address and the remedy."""


class Refused(HardpartsError):
    """The broker refuses a change; the message has its reason."""


class TopicFound(NamedTuple):
    """A topic as the cluster has it. partitions: how many. led: how many of them have a leader."""

    partitions: int
    led: int
    replication: int


class Admin:
    """Requests about topics; transient errors are tried again until a time limit, then BrokerAway."""

    def __init__(self, client: AIOKafkaAdminClient, address: str) -> None:
        self._client, self._address = client, address

    async def topics(self, names: Iterable[str] | None = None) -> dict[str, TopicFound]:
        """name → what is there; a name that doesn't exist is left out. None: every topic that isn't internal."""
        wanted = None if names is None else sorted(set(names))

        async def ask() -> dict[str, TopicFound]:
            found = {}
            for topic in await self._client.describe_topics(wanted):
                code = topic["error_code"]
                if code == UNKNOWN_TOPIC or (wanted is None and topic["is_internal"]):
                    continue
                if code:
                    raise for_code(code)(topic["topic"])
                partitions = topic["partitions"]
                replication = min((len(p["replicas"]) for p in partitions), default=0)
                led = sum(p["leader"] >= 0 for p in partitions)
                found[topic["topic"]] = TopicFound(len(partitions), led, replication)
            return found

        return await self._patiently(ask)

    async def hidden(self, names: Iterable[str]) -> set[str]:
        """Those of these topics that this user may not see, whether they exist or not: asked without a name, a broker
        leaves them out.
        """
        wanted = sorted(set(names))

        async def ask() -> set[str]:
            found = await self._client.describe_topics(wanted)
            return {one["topic"] for one in found if one["error_code"] == TopicAuthorizationFailedError.errno}

        return await self._patiently(ask) if wanted else set()

    async def configs(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """topic → its settings as they are in force, defaults included."""
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in sorted(set(names))]
        if not resources:
            return {}

        return await self._patiently(lambda: self._described(resources))

    async def _described(self, resources: list[ConfigResource]) -> dict[str, dict[str, str]]:
        """name → settings in force, of topics or brokers."""
        found = {}
        for answer in await self._client.describe_configs(resources):
            for code, message, _, name, entries in answer.resources:
                if code:
                    raise for_code(code)(f"{name}: {message}")
                found[name] = {entry[0]: entry[1] for entry in entries}
        return found

    async def broker_setting(self, name: str) -> str | None:
        """A setting in force at one of the brokers; None when it has none of that name, or may not be asked."""

        async def ask() -> str | None:
            node = str(min(broker.nodeId for broker in self._client._client.cluster.brokers()))
            settings = await self._described([ConfigResource(ConfigResourceType.BROKER, node)])
            return settings.get(node, {}).get(name)

        with suppress(Refused):
            return await self._patiently(ask)
        return None

    async def require_ids(self, group: str, transactional_id: str) -> None:
        """Refused when an ACL keeps the group or the transactional id from us; aiokafka would wait in silence."""
        for name, kind in ((group, GROUP), (transactional_id, TRANSACTION)):

            async def ask(name: str = name, kind: int = kind) -> None:
                try:
                    await self._client.find_coordinator(name, kind)
                except DENIED:
                    raise
                except KafkaError as error:
                    if not error.retriable:
                        raise
                    # no coordinator yet: that is waited for elsewhere

            await self._patiently(ask)

    async def committed(self, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The group's offsets; those that it has none for are left out."""
        by_topic: dict[str, list[int]] = {}
        for tp in partitions:
            by_topic.setdefault(tp.topic, []).append(tp.partition)

        async def ask() -> dict[TopicPartition, int]:
            coordinator = await self._client.find_coordinator(group)
            answer = await self._client._send_request(OffsetFetchRequest(group, list(by_topic.items())), coordinator)
            if answer.error_code == NO_GROUP:
                return {}
            if answer.error_code:  # aiokafka's own list_consumer_group_offsets takes it for a group without offsets
                raise for_code(answer.error_code)(group)
            found = [(TopicPartition(name, n), offset) for name, parts in answer.topics for n, offset, *_ in parts]
            return {tp: offset for tp, offset in found if offset >= 0}

        return await self._patiently(ask)

    async def create(self, name: str, partitions: int, replication: int, config: Mapping[str, str]) -> None:
        """Create a topic and wait until each partition has a leader; one that exists by now is fine."""
        topic = NewTopic(name, partitions, replication, topic_configs=dict(config))

        async def ask() -> None:
            answer = await (await self._controlled()).create_topics([topic])
            for _, code, *message in answer.topic_errors:
                await self._judge(name, 0 if code == ALREADY_EXISTS else code, message)

        await self._patiently(ask, CHANGE_TIMEOUT_S)
        await self._until_led(name, 1)

    async def grow(self, name: str, partitions: int) -> None:
        """Raise the partition count."""

        async def ask() -> None:
            await (await self._controlled()).create_partitions({name: NewPartitions(partitions)})

        await self._patiently(ask, CHANGE_TIMEOUT_S)
        await self._until_led(name, partitions)

    async def configure(self, name: str, config: Mapping[str, str]) -> None:
        """Set these settings of a topic, and leave all others as they are."""
        entries = [(key, SET, value) for key, value in config.items()]

        async def ask() -> None:
            request = IncrementalAlterConfigs([(int(ConfigResourceType.TOPIC), name, entries)])
            answer = await (await self._controlled())._send_to_controller(request)
            for code, message, *_ in answer.resources:
                await self._judge(name, code, [message])

        await self._patiently(ask, CHANGE_TIMEOUT_S)

    async def _judge(self, name: str, code: int, message: Iterable[str | None]) -> None:
        if code:
            error = for_code(code)
            if error.retriable:
                await self._client._client.force_metadata_update()  # the controller may be another by now
            raise error(f"{name}: {' '.join(filter(None, message))}")

    async def _until_led(self, name: str, partitions: int) -> None:
        async def ask() -> None:
            found = (await self.topics([name])).get(name)
            if found is None or found.partitions < partitions or found.led < found.partitions:
                raise KafkaConnectionError(f"{name} has no leaders yet")

        await self._patiently(ask, CHANGE_TIMEOUT_S)

    async def _controlled(self) -> AIOKafkaAdminClient:
        """The client, once it knows the controller; without one, its requests to it break with an AttributeError."""
        client = self._client._client
        if client.cluster.controller is None:
            await client.force_metadata_update()
            if client.cluster.controller is None:
                raise KafkaConnectionError("the cluster has no controller yet")
        return self._client

    async def _patiently(self, work: Callable[[], Awaitable[T]], within_s: float = REQUEST_TIMEOUT_S) -> T:
        deadline, delay_s = time.monotonic() + within_s, RETRY_FIRST_S
        while True:
            try:
                return await work()
            except BrokerAway:
                raise
            except (KafkaError, OSError, TimeoutError) as error:
                if isinstance(error, DENIED):
                    raise denied(self._address, error) from error
                if not getattr(error, "retriable", True):
                    raise Refused(f"the broker at {self._address} refuses: {line_of(error)}") from error
                if time.monotonic() + delay_s > deadline or isinstance(error, TimeoutError | RequestTimedOutError):
                    raise away(self._address, line_of(error)) from error
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_CAP_S)


@asynccontextmanager
async def connect(settings: Settings, cluster_memory: ClusterMemory | None = None) -> AsyncIterator[Admin]:
    """An Admin for the settings' brokers. BrokerAway when none answers within CONNECT_TIMEOUT_S; OtherCluster.

    cluster_memory: what the process knows of its cluster; None: nothing.
    """
    address = ",".join(settings.brokers)
    client = AIOKafkaAdminClient(
        **client_options(settings),
        cluster_memory=cluster_memory,
        request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
        retry_backoff_ms=100,
    )
    try:
        try:
            await asyncio.wait_for(client.start(), CONNECT_TIMEOUT_S)
        except (KafkaError, OSError, TimeoutError) as error:
            if cluster_memory is not None and cluster_memory.other is not None:
                raise cluster_memory.other from None
            why = "no answer" if isinstance(error, TimeoutError) else await refusal(settings)
            raise away(address, why) from error
        yield Admin(client, address)
    finally:
        with suppress(Exception):
            await asyncio.wait_for(client.close(), 2.0)


def client_options(settings: Settings) -> dict[str, Any]:
    """What every client of the broker is given; Misconfigured when it may not be reached like that."""
    return {
        "bootstrap_servers": settings.brokers, "client_id": f"{settings.app_id}-command", **client_security(settings),
    }  # fmt: skip


def away(address: str, why: str) -> BrokerAway:
    """The error for brokers that can't be reached."""
    reason = f" ({why})" if why else ""
    return BrokerAway(
        f"no broker answers at {address}{reason}: start one (`hardparts broker`) or name yours (HARDPARTS_BROKER=kafka://host:port)"
    )


def denied(address: str, error: KafkaError) -> Refused:
    """The error for what an ACL keeps from us."""
    return Refused(f"the broker at {address} refuses: {line_of(error)}: grant it to this user (docs/security.md)")


class _IncrementalAlterConfigsResponse(Response):
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "resources",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class _IncrementalAlterConfigsRequest(RequestStruct):
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _IncrementalAlterConfigsResponse
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                ("configs", Array(("name", String("utf-8")), ("operation", Int8), ("value", String("utf-8")))),
            ),
        ),
        ("validate_only", Boolean),
    )


class IncrementalAlterConfigs(Request[_IncrementalAlterConfigsRequest]):
    """KIP-339: change some settings. resources: [(type, name, [(setting, operation, value)])]."""

    API_KEY = 44

    def __init__(self, resources: list[tuple[int, str, list[tuple[str, int, str]]]]) -> None:
        self._resources = resources

    def build(self, request_struct_class: type[_IncrementalAlterConfigsRequest]) -> _IncrementalAlterConfigsRequest:
        """The request on the wire."""
        return request_struct_class(self._resources, False)
