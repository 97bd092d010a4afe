"""The protocol's error codes: each by its name, and what becomes of the messages of a request that gets it."""

from enum import Enum
from typing import Any

from aiokafka import errors as aiokafka_errors
from aiokafka.errors import BrokerResponseError, KafkaError

NAMES = dict(
    enumerate(
        [
            "NONE",
            "OFFSET_OUT_OF_RANGE",
            "CORRUPT_MESSAGE",
            "UNKNOWN_TOPIC_OR_PARTITION",
            "INVALID_FETCH_SIZE",
            "LEADER_NOT_AVAILABLE",
            "NOT_LEADER_OR_FOLLOWER",
            "REQUEST_TIMED_OUT",
            "BROKER_NOT_AVAILABLE",
            "REPLICA_NOT_AVAILABLE",
            "MESSAGE_TOO_LARGE",
            "STALE_CONTROLLER_EPOCH",
            "OFFSET_METADATA_TOO_LARGE",
            "NETWORK_EXCEPTION",
            "COORDINATOR_LOAD_IN_PROGRESS",
            "COORDINATOR_NOT_AVAILABLE",
            "NOT_COORDINATOR",
            "INVALID_TOPIC_EXCEPTION",
            "RECORD_LIST_TOO_LARGE",
            "NOT_ENOUGH_REPLICAS",
            "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
            "INVALID_REQUIRED_ACKS",
            "ILLEGAL_GENERATION",
            "INCONSISTENT_GROUP_PROTOCOL",
            "INVALID_GROUP_ID",
            "UNKNOWN_MEMBER_ID",
            "INVALID_SESSION_TIMEOUT",
            "REBALANCE_IN_PROGRESS",
            "INVALID_COMMIT_OFFSET_SIZE",
            "TOPIC_AUTHORIZATION_FAILED",
            "GROUP_AUTHORIZATION_FAILED",
            "CLUSTER_AUTHORIZATION_FAILED",
            "INVALID_TIMESTAMP",
            "UNSUPPORTED_SASL_MECHANISM",
            "ILLEGAL_SASL_STATE",
            "UNSUPPORTED_VERSION",
            "TOPIC_ALREADY_EXISTS",
            "INVALID_PARTITIONS",
            "INVALID_REPLICATION_FACTOR",
            "INVALID_REPLICA_ASSIGNMENT",
            "INVALID_CONFIG",
            "NOT_CONTROLLER",
            "INVALID_REQUEST",
            "UNSUPPORTED_FOR_MESSAGE_FORMAT",
            "POLICY_VIOLATION",
            "OUT_OF_ORDER_SEQUENCE_NUMBER",
            "DUPLICATE_SEQUENCE_NUMBER",
            "INVALID_PRODUCER_EPOCH",
            "INVALID_TXN_STATE",
            "INVALID_PRODUCER_ID_MAPPING",
            "INVALID_TRANSACTION_TIMEOUT",
            "CONCURRENT_TRANSACTIONS",
            "TRANSACTION_COORDINATOR_FENCED",
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
            "SECURITY_DISABLED",
            "OPERATION_NOT_ATTEMPTED",
            "KAFKA_STORAGE_ERROR",
            "LOG_DIR_NOT_FOUND",
            "SASL_AUTHENTICATION_FAILED",
            "UNKNOWN_PRODUCER_ID",
            "REASSIGNMENT_IN_PROGRESS",
            "DELEGATION_TOKEN_AUTH_DISABLED",
            "DELEGATION_TOKEN_NOT_FOUND",
            "DELEGATION_TOKEN_OWNER_MISMATCH",
            "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED",
            "DELEGATION_TOKEN_AUTHORIZATION_FAILED",
            "DELEGATION_TOKEN_EXPIRED",
            "INVALID_PRINCIPAL_TYPE",
            "NON_EMPTY_GROUP",
            "GROUP_ID_NOT_FOUND",
            "FETCH_SESSION_ID_NOT_FOUND",
            "INVALID_FETCH_SESSION_EPOCH",
            "LISTENER_NOT_FOUND",
            "TOPIC_DELETION_DISABLED",
            "FENCED_LEADER_EPOCH",
            "UNKNOWN_LEADER_EPOCH",
            "UNSUPPORTED_COMPRESSION_TYPE",
            "STALE_BROKER_EPOCH",
            "OFFSET_NOT_AVAILABLE",
            "MEMBER_ID_REQUIRED",
            "PREFERRED_LEADER_NOT_AVAILABLE",
            "GROUP_MAX_SIZE_REACHED",
            "FENCED_INSTANCE_ID",
            "ELIGIBLE_LEADERS_NOT_AVAILABLE",
            "ELECTION_NOT_NEEDED",
            "NO_REASSIGNMENT_IN_PROGRESS",
            "GROUP_SUBSCRIBED_TO_TOPIC",
            "INVALID_RECORD",
            "UNSTABLE_OFFSET_COMMIT",
            "THROTTLING_QUOTA_EXCEEDED",
            "PRODUCER_FENCED",
            "RESOURCE_NOT_FOUND",
            "DUPLICATE_RESOURCE",
            "UNACCEPTABLE_CREDENTIAL",
            "INCONSISTENT_VOTER_SET",
            "INVALID_UPDATE_VERSION",
            "FEATURE_UPDATE_FAILED",
            "PRINCIPAL_DESERIALIZATION_FAILURE",
            "SNAPSHOT_NOT_FOUND",
            "POSITION_OUT_OF_RANGE",
            "UNKNOWN_TOPIC_ID",
            "DUPLICATE_BROKER_REGISTRATION",
            "BROKER_ID_NOT_REGISTERED",
            "INCONSISTENT_TOPIC_ID",
            "INCONSISTENT_CLUSTER_ID",
            "TRANSACTIONAL_ID_NOT_FOUND",
            "FETCH_SESSION_TOPIC_ID_ERROR",
            "INELIGIBLE_REPLICA",
            "NEW_LEADER_ELECTED",
            "OFFSET_MOVED_TO_TIERED_STORAGE",
            "FENCED_MEMBER_EPOCH",
            "UNRELEASED_INSTANCE_ID",
            "UNSUPPORTED_ASSIGNOR",
            "STALE_MEMBER_EPOCH",
            "MISMATCHED_ENDPOINT_TYPE",
            "UNSUPPORTED_ENDPOINT_TYPE",
            "UNKNOWN_CONTROLLER_ID",
            "UNKNOWN_SUBSCRIPTION_ID",
            "TELEMETRY_TOO_LARGE",
            "INVALID_REGISTRATION",
            "TRANSACTION_ABORTABLE",
            "INVALID_RECORD_STATE",
            "SHARE_SESSION_NOT_FOUND",
            "INVALID_SHARE_SESSION_EPOCH",
            "FENCED_STATE_EPOCH",
            "INVALID_VOTER_KEY",
            "DUPLICATE_VOTER",
            "VOTER_NOT_FOUND",
            "INVALID_REGULAR_EXPRESSION",
            "REBOOTSTRAP_REQUIRED",
            "STREAMS_INVALID_TOPOLOGY",
            "STREAMS_INVALID_TOPOLOGY_EPOCH",
            "STREAMS_TOPOLOGY_FENCED",
            "SHARE_SESSION_LIMIT_REACHED",
            "GROUP_DELETION_FAILED",
            "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED",
            "CONTROLLER_ID_NOT_REGISTERED",
        ]
    )
) | {-1: "UNKNOWN_SERVER_ERROR"}
"""Code → name, as Apache Kafka 4.4 has them; older versions have fewer."""


class Fate(Enum):
    """What becomes of the messages of a request."""

    AGAIN = "sent again, without limit: a fresh producer, after a cool-down"
    BISECT = "a record's fault: halved until that record is found, which is reported and kept"
    REFUSED = "the topic's: every message of the request is reported and kept"
    DOUBTFUL = "sent again a few times, then halved: whatever keeps failing is reported and kept"


_FATES = {
    Fate.AGAIN: """UNKNOWN_TOPIC_OR_PARTITION LEADER_NOT_AVAILABLE NOT_LEADER_OR_FOLLOWER REQUEST_TIMED_OUT
        BROKER_NOT_AVAILABLE REPLICA_NOT_AVAILABLE NETWORK_EXCEPTION COORDINATOR_LOAD_IN_PROGRESS
        COORDINATOR_NOT_AVAILABLE NOT_COORDINATOR NOT_ENOUGH_REPLICAS NOT_ENOUGH_REPLICAS_AFTER_APPEND
        CLUSTER_AUTHORIZATION_FAILED UNSUPPORTED_SASL_MECHANISM ILLEGAL_SASL_STATE NOT_CONTROLLER
        OUT_OF_ORDER_SEQUENCE_NUMBER INVALID_PRODUCER_EPOCH INVALID_PRODUCER_ID_MAPPING CONCURRENT_TRANSACTIONS
        KAFKA_STORAGE_ERROR SASL_AUTHENTICATION_FAILED UNKNOWN_PRODUCER_ID FENCED_LEADER_EPOCH UNKNOWN_LEADER_EPOCH
        STALE_BROKER_EPOCH LISTENER_NOT_FOUND PREFERRED_LEADER_NOT_AVAILABLE THROTTLING_QUOTA_EXCEEDED PRODUCER_FENCED
        UNKNOWN_TOPIC_ID INCONSISTENT_TOPIC_ID NEW_LEADER_ELECTED REBOOTSTRAP_REQUIRED""",
    Fate.BISECT: """MESSAGE_TOO_LARGE RECORD_LIST_TOO_LARGE UNSUPPORTED_FOR_MESSAGE_FORMAT
        POLICY_VIOLATION UNSUPPORTED_COMPRESSION_TYPE INVALID_RECORD""",
    # A durable producer sends the last of these again: what it has accepted waits until the clock is right.
    Fate.REFUSED: "INVALID_TOPIC_EXCEPTION TOPIC_AUTHORIZATION_FAILED INVALID_TIMESTAMP",
}
BY_NAME = {name: fate for fate, names in _FATES.items() for name in names.split()}
"""What isn't listed answers other requests (groups, controllers, topologies); for a produce request it is DOUBTFUL."""
_RETRIED_INSIDE = {"FENCED_LEADER_EPOCH", "UNKNOWN_LEADER_EPOCH", "UNKNOWN_TOPIC_ID", "INCONSISTENT_TOPIC_ID"}


def fate_of(error: BaseException) -> Fate:
    """What becomes of a request that ended with this."""
    if isinstance(error, BrokerResponseError):
        return BY_NAME.get(name_of(error), Fate.DOUBTFUL)
    if isinstance(error, KafkaError | OSError | TimeoutError):
        return Fate.AGAIN  # the client's own: connections, a producer that was closed or fenced
    return Fate.DOUBTFUL


def name_of(error: BaseException) -> str:
    """The protocol's name of an error; of another one its class."""
    if isinstance(error, BrokerResponseError):
        return NAMES.get(error.errno, f"CODE_{error.errno}")
    return type(error).__name__


def code_of(error: BaseException) -> int | None:
    """The protocol's code of an error, if it has one."""
    return error.errno if isinstance(error, BrokerResponseError) else None


def teach_aiokafka() -> None:
    """Give the codes that aiokafka doesn't know a class: it would report them all as one unknown error."""
    known: dict[int, Any] = aiokafka_errors.kafka_errors
    for code, name in NAMES.items():
        if code not in known:
            retried = name in _RETRIED_INSIDE
            fields = {"errno": code, "message": name, "retriable": retried, "invalid_metadata": retried}
            known[code] = type(name, (BrokerResponseError,), fields)
