"""The gateway: events over HTTP, judged at the door, answered once they are in custody, then brought to Kafka."""
