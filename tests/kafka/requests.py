"""What the cluster is asked, by real requests: who is there, who leads, what is in sync; topics made and deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code
from aiokafka.protocol.metadata import MetadataRequest

REQUEST_TIMEOUT_MS = 10_000
POLL_S = 0.05
CHANGE_TIMEOUT_S = 30.0


@asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


async def brokers(address: str) -> set[int]:
    """Ids of the brokers that are in service in the eyes of the one at `address`."""
    async with admin(address) as client:
        return {broker["node_id"] for broker in (await client.describe_cluster())["brokers"]}


async def lagging_replicas(bootstrap: str, among: set[int]) -> list[str]:
    """`topic-partition` of each partition that lacks a leader, or one of whose replicas in `among` is out of sync."""
    async with admin(bootstrap) as client:
        return [
            f"{topic['topic']}-{p['partition']}"
            for topic in await client.describe_topics()
            for p in topic["partitions"]
            if p["leader"] < 0 or not among.intersection(p["replicas"]) <= set(p["isr"])
        ]


async def leader(bootstrap: str, topic: str, partition: int) -> int:
    """Id of the partition's leader, -1 without one."""
    async with admin(bootstrap) as client:
        for found in await client.describe_topics([topic]):
            for p in found["partitions"]:
                if p["partition"] == partition:
                    return int(p["leader"])
    return -1


async def topics(bootstrap: str) -> dict[str, int]:
    """name → partitions of every topic but Kafka's own, by a request that names none and therefore creates none."""
    async with admin(bootstrap) as client:
        return {t["topic"]: len(t["partitions"]) for t in await client.describe_topics() if not _internal(t)}


async def replicas(bootstrap: str) -> dict[str, set[int]]:
    """name → how many replicas its partitions have."""
    async with admin(bootstrap) as client:
        return {
            t["topic"]: {len(p["replicas"]) for p in t["partitions"]}
            for t in await client.describe_topics()
            if not _internal(t)
        }


async def cleanup_policies(bootstrap: str, names: Iterable[str]) -> dict[str, str]:
    """name → cleanup policy."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found = {}
    async with admin(bootstrap) as client:
        for answer in await client.describe_configs(resources):
            for code, message, _, name, entries in answer.resources:
                assert code == 0, (name, message)
                found[name] = next(entry[1] for entry in entries if entry[0] == "cleanup.policy")
    return found


async def ask_and_create(bootstrap: str, topic: str) -> None:
    """Ask about a topic as other clients do by default, which lets the broker create it; returns when it is there."""
    async with admin(bootstrap) as client, asyncio.timeout(CHANGE_TIMEOUT_S):
        while True:
            answer = await client._send_request(MetadataRequest([topic], allow_auto_topic_creation=True))
            if answer.to_object()["topics"][0]["error_code"] == 0:
                return
            await asyncio.sleep(POLL_S)


async def committed(bootstrap: str, group: str) -> dict[tuple[str, int], int]:
    """(topic, partition) → committed offset of `group`, where there is one."""
    async with admin(bootstrap) as client:
        offsets = await client.list_consumer_group_offsets(group)
    return {(tp.topic, tp.partition): found.offset for tp, found in offsets.items() if found.offset >= 0}


async def coordinator(bootstrap: str, name: str, *, of_transactions: bool = False) -> int:
    """Id of the broker that coordinates the group `name`, or the transactions of the id `name`."""
    async with admin(bootstrap) as client:
        return int(await client.find_coordinator(name, coordinator_type=int(of_transactions)))


async def members(bootstrap: str, group: str) -> set[str]:
    """The member ids of `group`; a worker that was put out and came back has another one."""
    async with admin(bootstrap) as client:
        [answer] = await client.describe_consumer_groups([group])
    return {member[0] for found in answer.groups for member in found[5]}


async def delete_topic(bootstrap: str, topic: str) -> None:
    """Delete one topic; returns when it is gone."""
    async with admin(bootstrap) as client:
        _raise_first((await client.delete_topics([topic])).topic_error_codes)
        await _until(client, None, lambda described: all(t["topic"] != topic for t in described))


async def configure_topic(bootstrap: str, topic: str, config: Mapping[str, str]) -> None:
    """Replace the settings of a topic."""
    async with admin(bootstrap) as client:
        for answer in await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(config))]):
            for code, message, *_ in answer.resources:
                if code:
                    raise for_code(code)(f"{topic}: {message}")


async def create_topics(bootstrap: str, topics: Mapping[str, int], replication: int, config: Mapping[str, str]) -> None:
    """Create topics (name → partitions); returns when every partition has a leader; raises the broker's error."""
    async with admin(bootstrap) as client:
        answer = await client.create_topics(
            [NewTopic(name, count, replication, topic_configs=dict(config)) for name, count in topics.items()]
        )
        _raise_first(answer.topic_errors)

        def led(described: list[dict[str, Any]]) -> bool:
            leaders = {
                t["topic"]: sum(p["leader"] >= 0 for p in t["partitions"]) for t in described if t["error_code"] == 0
            }
            return all(leaders.get(name) == count for name, count in topics.items())

        await _until(client, list(topics), led)


async def delete_all_topics(bootstrap: str) -> None:
    """Delete every topic that is not internal; returns when they are gone."""
    async with admin(bootstrap) as client:
        names = [t["topic"] for t in await client.describe_topics() if not _internal(t)]
        if names:
            _raise_first((await client.delete_topics(names)).topic_error_codes)
        await _until(client, None, lambda described: all(_internal(t) for t in described))


def _internal(topic: Mapping[str, Any]) -> bool:
    return bool(topic["is_internal"]) or str(topic["topic"]).startswith("__")


def _raise_first(errors: list[tuple[Any, ...]]) -> None:
    for topic, code, *message in errors:
        if code:
            raise for_code(code)(f"{topic}: {message}")


async def _until(
    client: AIOKafkaAdminClient, topics: list[str] | None, holds: Callable[[list[dict[str, Any]]], bool]
) -> None:
    async with asyncio.timeout(CHANGE_TIMEOUT_S):
        while not holds(await client.describe_topics(topics)):  # noqa: ASYNC110 - the broker offers no event to wait for
            await asyncio.sleep(POLL_S)
