"""Where logs end whatever is committed, asked by a consumer that reads only what is."""

import copy
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import READ_UNCOMMITTED


def uncommitted(consumer: AIOKafkaConsumer) -> Any:
    """Its fetcher, whose `end_offsets` are the high watermarks: the consumer's own are the last stable offsets."""
    fetcher = copy.copy(consumer._fetcher)
    fetcher._isolation_level = READ_UNCOMMITTED
    return fetcher
