"""What the contracts layer raises: at start for a broken file, and at an output that its contract refuses."""

from collections.abc import Iterable
from pathlib import Path

from pipeline.core.errors import HardpartsError, Misconfigured


class ContractBroken(HardpartsError):
    """An event to be published breaks its contract; nothing was sent.

    explain: one line a failure, in declared order.
    """

    def __init__(self, explain: Iterable[str], event_type: str | None = None) -> None:
        self.explain = tuple(explain)
        self.event_type = event_type
        super().__init__(headline(self.explain, event_type))


class UnknownType(HardpartsError):
    """An event to be published has a type that its topic doesn't know."""


class SchemaBroken(Misconfigured):
    """A schema can't serve as a contract.

    pointer: JSON pointer of the place. remedy: what to do. event_type: whose schema it is, once that is known.
    """

    event_type: str | None = None

    def __init__(self, pointer: str, problem: str, remedy: str) -> None:
        self.pointer, self.problem, self.remedy = pointer, problem, remedy
        super().__init__(f"at {pointer or 'the root'}: {problem}; {remedy}")


class ContractFileBroken(SchemaBroken):
    """A contract file can't be used: its path, the JSON pointer of the place, and what to do."""

    def __init__(self, path: Path, pointer: str, problem: str, remedy: str) -> None:
        super().__init__(pointer, problem, remedy)
        self.path = path
        self.args = (f"contract {path}, {self.args[0]}",)


def headline(explain: tuple[str, ...], event_type: str | None) -> str:
    """One line for people: the first failure and how many more there are."""
    more = f" (and {len(explain) - 1} more)" if len(explain) > 1 else ""
    return f"{event_type or 'event'}: {explain[0]}{more}" if explain else f"{event_type or 'event'} breaks its contract"
