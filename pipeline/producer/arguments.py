"""What `produce` and the others take: checked strictly, before anything is buffered."""

import re
from collections.abc import Sequence

from pipeline.producer.errors import BadHeaders, BadKey, BadPartition, BadPayload, BadTopic
from pipeline.producer.message import OVERHEAD_BYTES, Headers

TOPIC_CHARACTERS_MAX = 249
_LEGAL = re.compile(r"[A-Za-z0-9._-]+")
PARTITION_MAX = 2**31 - 1

Payload = bytes | list[bytes] | None


def check_topic(topic: object) -> str:
    """The topic, or BadTopic."""
    if type(topic) is not str:
        raise BadTopic(f"a topic is text, not {type(topic).__name__}")
    if not 0 < len(topic) <= TOPIC_CHARACTERS_MAX:
        raise BadTopic(f"a topic has 1 to {TOPIC_CHARACTERS_MAX} characters, not {len(topic)}")
    if topic in {".", ".."} or not _LEGAL.fullmatch(topic):
        raise BadTopic(f"a topic has letters, digits, '.', '_' and '-' only: {topic!r}")
    return topic


def check_partition(partition: object) -> int:
    """The partition, or BadPartition."""
    if type(partition) is not int:
        raise BadPartition(f"a partition is an integer, not {type(partition).__name__}")
    if not 0 <= partition <= PARTITION_MAX:
        raise BadPartition(f"a partition counts from 0, not {partition}")
    return partition


def check_key(key: object) -> bytes | None:
    """The key, or BadKey."""
    if key is not None and type(key) is not bytes:
        raise BadKey(f"a key is bytes or None, not {type(key).__name__}")
    return key


def check_headers(headers: object) -> Headers:
    """The headers as pairs, or BadHeaders."""
    if not isinstance(headers, Sequence) or isinstance(headers, str | bytes):
        raise BadHeaders(f"headers are a list of (text, bytes), not {type(headers).__name__}")
    pairs = []
    for pair in headers:
        if type(pair) is not tuple or len(pair) != 2 or type(pair[0]) is not str or type(pair[1]) is not bytes:
            raise BadHeaders(f"a header is (text, bytes), not {pair!r}")
        try:
            pair[0].encode()
        except UnicodeEncodeError as error:
            raise BadHeaders(f"a header's name must be UTF-8: {error}") from None
        pairs.append(pair)
    return pairs


def check_payload(payload: object, key: bytes | None) -> Sequence[bytes | None]:
    """The values, one a message, or BadPayload."""
    if type(payload) is bytes:
        return (payload,)
    if payload is None:
        if key is None:
            raise BadPayload("a payload of None is a tombstone, which needs a key")
        return (None,)
    if type(payload) is not list:
        raise BadPayload(f"a payload is bytes or a list of bytes, not {type(payload).__name__}")
    if not payload:
        raise BadPayload("a list of payloads must not be empty")
    for value in payload:
        if type(value) is not bytes:
            raise BadPayload(f"a payload is bytes, not {type(value).__name__}")
    return payload


def size_of(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """Bytes that a message counts for."""
    size = OVERHEAD_BYTES + (len(key) if key else 0) + (len(value) if value else 0)
    for name, text in headers:
        size += len(name) + len(text) + 8
    return size
