"""The state of each agent, declared: views of its RocksDB rows, and the SQL read model."""
