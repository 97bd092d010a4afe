"""Where a unit stands, said in its own changelog: the row `_turn`, the last one of each record batch of step 6.

Rows and the positions behind them are one record batch, so a changelog that has lost its tail says exactly up to where
its rows go, whatever the group's offsets claim.
"""

from collections.abc import Mapping
from typing import NamedTuple, Self

import orjson

from pipeline.core.state import Row

TURN = b"_turn"
VERSION = 1
NUMBER_DIGITS_MAX = 20


class Turn(NamedTuple):
    """number: grows with each recorded batch, also when a changelog has lost its tail. fence: whose ownership wrote it.

    clock_ms: the worker's clock then. positions: source topic → next offset, as of the rows in front of this one.
    place: the lowest changelog offset at which this row may stand; below it, rows in front of it have been lost.
    topics: source topic → its id, which another topic of that name doesn't have.
    """

    number: int = 0
    fence: str = ""
    clock_ms: int = 0
    positions: Mapping[str, int] = {}
    place: int = 0
    topics: Mapping[str, str] = {}

    def row(self) -> Row:
        """Its row of state."""
        return TURN, orjson.dumps(
            {
                "v": VERSION, "n": self.number, "fence": self.fence, "t": self.clock_ms, "at": dict(self.positions),
                "place": self.place, "ids": dict(self.topics),
            }
        )  # fmt: skip

    @classmethod
    def read(cls, value: bytes | None) -> Self:
        """From the value of the row; turn 0 without one. ValueError for a version that this code doesn't know."""
        if value is None:
            return cls()
        read = orjson.loads(value)
        if read["v"] != VERSION:
            raise ValueError(f"a turn of version {read['v']}, this version of hardparts reads {VERSION}")
        return cls(read["n"], read["fence"], read["t"], read["at"], read["place"], read.get("ids", {}))

    def recorded(self, positions: Mapping[str, int], fence: str, clock_ms: int, place: int) -> Self:
        """The next one, after the rows up to these positions."""
        number, at = max(self.number + 1, clock_ms), {**self.positions, **positions}
        return type(self)(number, fence, clock_ms, at, place, self.topics)


def row_bytes_max(topics: list[str]) -> int:
    """An upper bound of the row's size, key included, for an agent with these sources."""
    longest = Turn(0, "f" * 32, 0, dict.fromkeys(topics, 0), 0, dict.fromkeys(topics, "i" * 36))
    key, value = longest.row()
    return len(key) + len(value or b"") + (3 + len(topics)) * NUMBER_DIGITS_MAX
