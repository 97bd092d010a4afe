"""The embedded broker: Kafka-compatible, one small process, for development, tests and the demo only.

It keeps one copy of the data, and when it is killed it aborts open transactions and forgets group members.
In production use Apache Kafka.
"""

from pipeline.broker.binary import BrokerUnavailableError, broker_binary
from pipeline.broker.process import BrokerStartError, EmbeddedBroker

__all__ = ["BrokerStartError", "BrokerUnavailableError", "EmbeddedBroker", "broker_binary"]
