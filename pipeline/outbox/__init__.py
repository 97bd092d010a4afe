"""The outbox relay: rows that an application writes in its own SQL transaction reach Kafka, in order per key."""

from pipeline.outbox.ddl import ddl
from pipeline.outbox.errors import DatabaseAway
from pipeline.outbox.relay import Relay
from pipeline.outbox.table import Table

__all__ = ["Relay", "Table", "DatabaseAway", "ddl"]
