"""A producer that answers for a message until Kafka has it: in memory, then on disk, in order, until confirmed."""

from pipeline.producer.consuming import Consumption, Record
from pipeline.producer.errors import (
    BadHeaders,
    BadKey,
    BadPartition,
    BadPayload,
    BadTopic,
    BufferFull,
    FetchInProgress,
    NonExistingTopic,
    NotAvailable,
    NotConsuming,
    ProducerError,
    SpillDamaged,
    SpillInUse,
    SpillUnusable,
    Stopped,
    Undeliverable,
)
from pipeline.producer.limits import Limits, Load
from pipeline.producer.message import Delivery, Place, Undelivered
from pipeline.producer.probe import probe
from pipeline.producer.producer import ReliableProducer

__all__ = [
    "ReliableProducer",
    "Delivery",
    "Place",
    "Limits",
    "Load",
    "Consumption",
    "Record",
    "Undelivered",
    "probe",
    "ProducerError",
    "BadTopic",
    "BadPartition",
    "BadPayload",
    "BadKey",
    "BadHeaders",
    "NonExistingTopic",
    "NotAvailable",
    "BufferFull",
    "Undeliverable",
    "SpillUnusable",
    "SpillInUse",
    "SpillDamaged",
    "FetchInProgress",
    "NotConsuming",
    "Stopped",
]
