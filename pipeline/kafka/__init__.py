"""Changes to aiokafka's client, in one place."""
