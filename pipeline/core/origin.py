"""What a changelog says of itself, in two rows that its first owner writes: which one it is, and in which format."""

from typing import NamedTuple, Self
from uuid import uuid4

import orjson

from pipeline.core.errors import Misconfigured
from pipeline.core.state import Row

ORIGIN = b"_origin"
CHANGELOG_FORMAT = b"_changelog_format"
"""Not `_format`, which is a directory's: versions that know no format of changelogs copy every row into theirs."""
FORMAT = 2
"""1: rows and fences. 2: also `_turn`, `_origin` and this number."""


class ChangelogFromNewerVersion(Misconfigured):
    """A newer version of hardparts has written this changelog; the message has both format numbers."""


class Origin(NamedTuple):
    """id: random, made once for each changelog partition. cluster: Kafka's id of the cluster; "" when it wasn't known.

    first: no row stood in front of it, so a changelog that begins with this row has lost nothing.
    """

    id: str
    cluster: str
    first: bool

    @classmethod
    def new(cls, cluster: str, *, first: bool) -> Self:
        """Of a changelog that has none."""
        return cls(uuid4().hex, cluster, first)

    def row(self) -> Row:
        """Its row of state."""
        return ORIGIN, orjson.dumps({"id": self.id, "cluster": self.cluster, "first": self.first})

    @classmethod
    def read(cls, value: bytes | None) -> Self | None:
        """From the value of the row; None without one."""
        if value is None:
            return None
        read = orjson.loads(value)
        return cls(read["id"], read["cluster"], bool(read.get("first")))


def format_row() -> Row:
    """The row that says the format which this version writes."""
    return CHANGELOG_FORMAT, b"%d" % FORMAT


def require_readable(changelog: str, value: bytes | None) -> None:
    """ChangelogFromNewerVersion unless this version reads the format that the row says."""
    if value is not None and int(value) > FORMAT:
        raise ChangelogFromNewerVersion(
            f"{changelog} has format {int(value)}, this version of hardparts reads up to {FORMAT}: run the newer one"
        )
