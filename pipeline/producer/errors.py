"""What the producer refuses and why, each error with a `name` to decide by.

ProducerError
├── BadTopic, BadPartition, BadPayload, BadKey, BadHeaders    the caller's fault: nothing was buffered
├── NonExistingTopic        the cluster says that there is no such topic
├── NotAvailable            no broker answers now
├── BufferFull              a cap is reached: memory, or the spill
├── Undeliverable           the broker refuses this message for good; code and name are the protocol's
├── SpillUnusable           the spill directory can't be used: path, errno
├── SpillInUse              another process has it
├── SpillDamaged            messages on the disk can't be read any more
├── FetchInProgress, NotConsuming    `consume` and `stop_consuming`
└── Stopped                 the producer was stopped
"""

import os
from pathlib import Path

from pipeline.core.errors import HardpartsError


class ProducerError(HardpartsError):
    """Everything that the producer raises on purpose. name: stays the same, whatever the message says."""

    name = "producer_error"


class BadTopic(ProducerError):
    """Not a topic's name: text of 1 to 249 characters, letters, digits, `.`, `_` and `-`."""

    name = "bad_topic"


class BadPartition(ProducerError):
    """Not a partition of the topic: an integer from 0 on (True isn't one), below the topic's count."""

    name = "bad_partition"


class BadPayload(ProducerError):
    """Not bytes or a non-empty list of bytes; None (a tombstone) needs a key."""

    name = "bad_payload"


class BadKey(ProducerError):
    """Not bytes or None."""

    name = "bad_key"


class BadHeaders(ProducerError):
    """Not a list of (text, bytes)."""

    name = "bad_headers"


class NonExistingTopic(ProducerError):
    """The cluster answers, and has no such topic."""

    name = "non_existing_topic"


class NotAvailable(ProducerError):
    """No broker answers now."""

    name = "not_available"


class BufferFull(ProducerError):
    """A cap is reached: this message was not taken. Try again later."""

    name = "buffer_full"


class FetchInProgress(ProducerError):
    """This topic-partition is being consumed already."""

    name = "fetch_in_progress"


class NotConsuming(ProducerError):
    """Nobody consumes this topic-partition."""

    name = "not_consuming"


class Stopped(ProducerError):
    """The producer was stopped before this was confirmed."""

    name = "stopped"


class Undeliverable(ProducerError):
    """The broker refuses this message for good. code: the protocol's (None: found by the client)."""

    def __init__(self, name: str, code: int | None, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.code = code


class SpillUnusable(ProducerError):
    """The spill directory can't be used: `path`, `errno` (None when the system named none)."""

    name = "spill_unusable"

    def __init__(self, path: Path, reason: str, errno: int | None = None) -> None:
        number = f" (errno {errno})" if errno is not None else ""
        super().__init__(f"spill directory {path}: {reason}{number}")
        self.path, self.errno = path, errno

    @classmethod
    def of(cls, error: OSError, path: Path, doing: str) -> "SpillUnusable":
        """What the system said while `doing` something with `path`."""
        said = os.strerror(error.errno) if error.errno else str(error)
        return cls(Path(error.filename or path), f"{doing}: {said}", error.errno)


class SpillInUse(ProducerError):
    """Another process has the spill directory."""

    name = "spill_in_use"


class SpillDamaged(ProducerError):
    """Messages on the disk can't be read any more; the others are delivered."""

    name = "spill_damaged"
