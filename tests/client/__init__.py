"""The client of the gateway."""
