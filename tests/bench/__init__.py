"""The benchmark: our worker and its peers do the same work on one Apache Kafka. Try `python -m tests.bench --help`."""
