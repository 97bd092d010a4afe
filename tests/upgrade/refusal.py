"""Refusing by name: how an older version says that it does not know the format of what a newer one wrote."""

from __future__ import annotations

import re

from tests.oracle.process import Worker

REFUSAL_STATUS = 2
BOTH_FORMATS = re.compile(r"\bformat (\d+)\b.*\breads (?:formats? )?(?:up to )?(\d+)\b")
"""Like `…: state format 2, this version reads 1`."""


def refuses_by_name(worker: Worker) -> bool:
    """Whether its last process ended with 2 because of a format, and named that one and the one it knows."""
    if worker.alive or worker.process.returncode != REFUSAL_STATUS:
        return False
    said = worker.end_of_log(20_000).rpartition("\ncode ")[2]  # what earlier processes of this name said is not its own
    return any(found != known for found, known in BOTH_FORMATS.findall(said))
