"""The outbox relay: databases, writers, a relay that is killed."""
