"""Where a unit starts to read a source: where its changelog says, unless a person has set the group's offset back.

The group's offset is a copy for tools. It runs ahead of a changelog that has lost its tail, and it expires; trusting it
then skips records whose rows are gone. Starting too early only costs repeats, which the marks make harmless.
"""

import json
from typing import Any, Literal, NamedTuple

VERSION = 1
Said = Literal[
    "", "set back", "moved ahead", "behind", "behind: empty", "expired commit", "foreign", "made again",
    "rewound", "lost",
]  # fmt: skip


class Committed(NamedTuple):
    """The group's offset of a topic-partition.

    ours: a worker has committed it, not a person. topic_id: of the topic that it was read from; "" when not said.
    """

    offset: int
    ours: bool
    topic_id: str = ""

    @classmethod
    def of(cls, offset: int, metadata: str) -> "Committed":
        """From what the broker has."""
        try:
            said: Any = json.loads(metadata)
            return cls(offset, "v" in said, said.get("topic", ""))
        except (ValueError, TypeError, AttributeError):
            return cls(offset, ours=False)


def commit_metadata(topic_id: str = "") -> str:
    """What our commits carry, so that an offset that somebody else has set can be told from ours."""
    return json.dumps({"v": VERSION} | ({"topic": topic_id} if topic_id else {}), separators=(",", ":"))


class Known(NamedTuple):
    """What a unit's changelog says of one source.

    position: where the changelog's rows end, None when it doesn't say or can't be believed. empty: it holds no row.
    has_tables: the agent keeps state, so what an empty changelog has lost must be made again.
    """

    position: int | None
    empty: bool
    has_tables: bool


class Start(NamedTuple):
    """offset: the first to read. said: what a person should hear of it; "" for the ordinary case. wanted: where it
    would have started if the source had it.
    """

    offset: int
    said: Said
    wanted: int


def start(committed: Committed | None, known: Known, beginning: int, end: int) -> Start:
    """Decide. beginning, end: the first offset that the source still has, and the one behind its last record."""
    wanted, said = _wanted(committed, known, beginning)
    if said == "moved ahead" and committed is not None and committed.offset > beginning:
        return Start(max(wanted, beginning), said, wanted)
    if wanted > end:  # where it was cut isn't known: what is new may stand anywhere
        return Start(beginning, "rewound", wanted)
    if wanted < beginning:
        return Start(beginning, "lost", wanted)
    return Start(wanted, said, wanted)


def _wanted(committed: Committed | None, known: Known, beginning: int) -> tuple[int, Said]:
    position = known.position
    if position is None:
        if known.empty and known.has_tables and committed is not None and committed.offset > beginning:
            return beginning, "behind: empty"
        if committed is None:
            return beginning, ""
        return committed.offset, "" if known.empty else "foreign"
    if committed is None:
        return position, "expired commit"
    if committed.ours:
        return position, "behind" if committed.offset > position else ""
    if committed.offset < position:
        return committed.offset, "set back"
    return position, "moved ahead" if committed.offset > position else ""
