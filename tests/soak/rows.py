"""The table of soak runs in docs/measurements.md: the program adds rows, nobody writes them."""

from __future__ import annotations

from pathlib import Path

from tests.kafka.jars import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "measurements.md"
HEADING = "## Soak runs"
HEAD = ("date", "run", "size", "seed", "found", "s", "machine", "Kafka")


def row(*cells: str) -> str:
    """A line of the table."""
    assert len(cells) == len(HEAD)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def with_rows(text: str, rows: list[str]) -> str:
    """The document with these rows at the end of the table; ValueError when it has no such table."""
    before, heading, section = text.partition(f"\n{HEADING}\n")
    lines = section.split("\n")
    end = next((at for at, line in enumerate(lines) if line.startswith("## ")), len(lines))
    table = [at for at, line in enumerate(lines[:end]) if line.startswith("|")]
    if not heading or not table or lines[table[0]] != row(*HEAD):
        raise ValueError(f"no table with the columns {', '.join(HEAD)} under {HEADING!r}")
    after = table[-1] + 1
    return before + heading + "\n".join([*lines[:after], *rows, *lines[after:]])


def add(rows: list[str], document: Path = DOCUMENT) -> None:
    """Write them."""
    document.write_text(with_rows(document.read_text(encoding="utf-8"), rows), encoding="utf-8")
