"""What the commands do: the cluster's topics, sending, reading state and errors, the doctor."""
