"""The part that runs: everything here stands on Faust, Kafka and RocksDB; nothing else imports faust."""
