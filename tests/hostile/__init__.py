"""Records that nobody sane would send, by the thousand, and what a worker makes of them."""
