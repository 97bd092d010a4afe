"""What the judge found, to be read by a person."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

SHOWN_PER_KIND = 10


class Difference(NamedTuple):
    """One thing that is not as it must be. `kind` is a short name, `where` coordinates or a key."""

    kind: str
    where: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}" + (f": {self.detail}" if self.detail else "")


@dataclass
class Report:
    """What differs, and the sums.

    counts: kind of difference → how often. figures: name → number, to be read. differences: the first ten of a kind.
    """

    counts: Counter[str] = field(default_factory=Counter)
    figures: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.counts

    def differs(self, kind: str, where: object, detail: str = "") -> None:
        """Note a difference."""
        self.counts[kind] += 1
        if self.counts[kind] <= SHOWN_PER_KIND:
            self.differences.append(Difference(kind, str(where), detail))

    def __str__(self) -> str:
        lines = [f"{name}: {number}" for name, number in self.figures.items()]
        lines += [f"DIFFERENT {kind}: {number}" for kind, number in self.counts.items()]
        return "\n".join([*lines, *(f"  {difference}" for difference in self.differences)])
