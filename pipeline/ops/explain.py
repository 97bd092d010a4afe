"""`contracts explain`: bytes judged by a topic's contract, as a worker would judge them."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.core.contract import Contract, Refused


class Verdict(NamedTuple):
    """What the contract says. line: where the event begins, from 1. explain: one line a failure; empty when valid."""

    line: int
    valid: bool
    type: str | None
    kind: str | None
    message: str
    explain: tuple[str, ...]


def events_of(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(line number, bytes) of each event: the whole content when it is one JSON value or not JSON in any line, else
    each line that isn't empty.
    """
    lines = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    if len(lines) < 2 or _is_json(content) or not any(_is_json(line) for _, line in lines):
        yield (lines[0][0] if lines else 1), content.strip()
    else:
        yield from lines


def judged(contract: Contract, content: bytes) -> Iterator[Verdict]:
    """A verdict for each event of `content`."""
    for line, raw in events_of(content):
        result = contract.decode(raw)
        if isinstance(result, Refused):
            yield Verdict(line, False, result.event_type, result.kind, result.message, result.explain)
        else:
            yield Verdict(line, True, result.type, None, "", ())


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True
