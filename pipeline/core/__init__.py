"""The pure part: what happens to a record is decided here, without I/O, clock, randomness, logging or Faust."""
