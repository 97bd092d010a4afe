"""Applications that tests run in real workers (HARDPARTS_APP)."""
