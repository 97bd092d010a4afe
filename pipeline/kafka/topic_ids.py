"""What a broker says about topics now: whether they are there, their partition counts and their ids.

aiokafka 0.14 knows the metadata request up to version 5, without ids; version 10 (Kafka 2.8) is declared here. Only the
id tells a topic that was deleted and made again from the one before.
"""

from collections.abc import Iterable
from io import BytesIO
from typing import NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, LeaderNotAvailableError, NoError, UnknownTopicOrPartitionError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

NO_ID = bytes(16)
THERE = (NoError.errno, LeaderNotAvailableError.errno)


class TopicSeen(NamedTuple):
    """A topic as a broker has it. topic_id: "" when the broker knows none."""

    topic_id: str
    partitions: int


async def see_topics(client: AIOKafkaClient, names: Iterable[str]) -> dict[str, TopicSeen | None]:
    """name → what is there, None for a topic that doesn't exist; one that the broker can't speak of is left out.

    KafkaError when no broker answers.
    """
    node = client.get_random_node()
    if node is None:
        raise KafkaConnectionError("no broker is known yet")
    wanted = sorted(set(names))
    try:
        answer = await client.send(node, _TopicsRequest(wanted))
        topics = [(code, name, topic_id.hex(), found) for code, name, topic_id, _, found, *_ in answer.topics]
    except NotImplementedError:  # an older broker, or one that is not Apache Kafka
        answer = await client.send(node, MetadataRequest(wanted))
        topics = [(code, name, "", found) for code, name, _, found in answer.topics]
    seen: dict[str, TopicSeen | None] = {}
    for code, name, topic_id, partitions in topics:
        if code == UnknownTopicOrPartitionError.errno:
            seen[name] = None
        elif code in THERE:
            seen[name] = TopicSeen(topic_id, len(partitions))
    return seen


class _Uuid(AbstractType[bytes]):
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class _MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("in_sync", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequest(RequestStruct):
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields))),
        ("may_create", Boolean),
        ("cluster_operations", Boolean),
        ("topic_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicsRequest(Request[_MetadataRequest]):
    API_KEY = 3

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        return request_struct_class([(NO_ID, name, {}) for name in self._names], False, False, False, {})
