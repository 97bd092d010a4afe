"""The proof under faults: a seeded schedule of kills on a real Apache Kafka, judged by the oracle; and planted bugs."""
