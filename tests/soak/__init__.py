"""The long acceptance runs by name: `python -m tests.soak` lists them."""
