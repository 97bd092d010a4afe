"""How much a producer may hold, and how much it holds."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps on what isn't confirmed. Over those of memory it goes to the disk; over those of the disk it is refused.

    disk_free_bytes_min: room that is left to others on the disk. Memory holds copies of what is on the disk and to be
    sent next besides: a record batch a partition, or half as much as its cap.
    """

    memory_messages: int = 100_000
    memory_bytes: int = 64 << 20
    disk_messages: int = 10_000_000
    disk_bytes: int = 4 << 30
    disk_free_bytes_min: int = 128 << 20


class Load(NamedTuple):
    """What isn't confirmed yet, and where it is."""

    messages: int
    memory_messages: int
    memory_bytes: int
    disk_messages: int
    disk_bytes: int
