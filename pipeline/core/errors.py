"""Whose fault a failure is, as types.

    HardpartsError
    ├── Reject            the record's fault: error topic, the offset moves on
    ├── Blocking          a dependency's fault: retried in place, the offset stays
    ├── InDoubt           an outside effect whose outcome is unknown: audited, never repeated by itself
    ├── OwnershipLost     another owner has taken this unit; nothing of ours may be written any more
    └── Misconfigured     ours, found at start: names the place and the remedy

Anything else that a handler raises is a bug of the handler: the agent's policy decides. So are SystemExit,
MemoryError, RecursionError, a CancelledError or GeneratorExit of its own, and every other BaseException; only
KeyboardInterrupt, which is Ctrl-C, ends the worker.
"""

from collections.abc import Iterable


class HardpartsError(Exception):
    """Everything that hardparts raises on purpose."""


class Reject(HardpartsError):
    """The record can't be processed, however often it is tried; it goes to the error topic.

    message: one line for people. explain: further lines, one a failure. What isn't text is written as its text.
    """

    message: str = ""
    explain: tuple[str, ...] = ()

    def __init__(self, message: str, explain: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.explain = (explain,) if isinstance(explain, str) else tuple(explain)


class Blocking(HardpartsError):
    """A dependency can't be reached now; the record waits in place, with everything behind it in its unit.

    dependency: what is away, e.g. "database"; it is the `reason` of the blocked metric and of the alert.
    """

    message: str = ""
    dependency: str = "dependency"

    def __init__(self, message: str, dependency: str = "dependency") -> None:
        super().__init__(message)
        self.message = message
        self.dependency = dependency


class InDoubt(HardpartsError):
    """An outside effect was begun and its outcome is unknown (the mail server's last reply was lost)."""


class OwnershipLost(HardpartsError):
    """A successor owns this unit: stop, write nothing."""


class Misconfigured(HardpartsError):
    """Found at start: the message names the place and the remedy."""
