"""What touches aiokafka's insides."""
