"""Real Apache Kafka on loopback, started from its jars, and the tests that need it."""
