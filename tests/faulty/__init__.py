"""A broker that answers with errors when it is told to, and what a worker makes of them."""
