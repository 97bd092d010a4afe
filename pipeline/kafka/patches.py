"""What is changed in aiokafka for every client in this process, each change with its reason.

aiokafka is pinned to 0.14.0, the version that these are made for. Whoever makes a client calls `apply_patches()` first:
the command line, the application, the reliable producer. A second call changes nothing.
"""

import functools
from pathlib import Path
from typing import Any

import aiokafka.admin.client
import aiokafka.consumer.consumer
import aiokafka.producer.producer
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.metadata import MetadataRequest, MetadataRequestStruct

from pipeline.kafka.client import RebootstrappingClient
from pipeline.kafka.memory import ClusterMemory

CREATION_FLAG_SINCE = 4
"""First version of the metadata request that can forbid the broker to create what it is asked about (Kafka 0.11)."""


def apply_patches() -> None:
    """Change aiokafka; for the whole process, since its clients build their requests themselves."""
    MetadataRequest.build = _build_without_creating
    for module in (aiokafka.admin.client, aiokafka.consumer.consumer, aiokafka.producer.producer):
        module.AIOKafkaClient = RebootstrappingClient
    for kind, client in ((AIOKafkaAdminClient, "_client"), (AIOKafkaConsumer, "_client"), (AIOKafkaProducer, "client")):
        if not hasattr(kind.__init__, "__wrapped__"):
            _take_more_options(kind, client)


def _take_more_options(kind: Any, client: str) -> None:
    """Let `kind` take what RebootstrappingClient has beside: aiokafka passes on only the options that it knows."""
    make = kind.__init__

    @functools.wraps(make)
    def __init__(  # noqa: N807 - it is one
        self: Any,
        *arguments: Any,
        cluster_memory: ClusterMemory | None = None,
        password_file: Path | None = None,
        **options: Any,
    ) -> None:
        make(self, *arguments, **options)
        getattr(self, client).password_file = password_file
        if cluster_memory is not None:
            getattr(self, client).cluster_memory = cluster_memory

    kind.__init__ = __init__


def _build_without_creating(
    self: MetadataRequest, request_struct_class: type[MetadataRequestStruct]
) -> MetadataRequestStruct:
    """A metadata request after which the cluster has the topics that it had before.

    Kafka's default is `auto.create.topics.enable=true`, and aiokafka 0.14 allows it in each request: a topic that
    somebody only asks about appears with the broker's partition count and cleanup policy, and a misspelt name is
    created instead of reported.
    """
    if request_struct_class.API_VERSION >= CREATION_FLAG_SINCE:
        return request_struct_class(self._topics, self._allow_auto_topic_creation or False)
    if self._topics:
        raise NotImplementedError("the broker is older than Kafka 0.11: asking it about a topic could create it")
    return request_struct_class(self._topics)
