"""Applications that tests run in a worker of their own."""
