"""Which partitioner the last records of a topic show, before anything of it is processed."""

from collections.abc import Iterable
from typing import NamedTuple

from pipeline.core.routing import KNOWN, belongs, canonical
from pipeline.core.strays import CAPITALS, KEY_CHARS_SHOWN, explanations, may_have_strays, remedy
from pipeline.core.topic import Topic

CONTRADICTED_MIN = 5
"""So many keys must stand where the declared partitioner doesn't put them: a few may come from a tool or a test."""
CHANCE = 1_000_000
"""Another partitioner must explain so many keys of n partitions that luck does it once in CHANCE: n ** keys."""


class Doubt(NamedTuple):
    """What a sample says against the declaration. certain: a worker must not start."""

    certain: bool
    message: str
    remedy: str


CAPITALS_MOVED = (
    "such records are rejected: have UUIDs written in lower case. A version before accepted them, so what it has "
    "counted of these keys stays in another partition: see docs/runbook.md, UUID keys in capitals"
)


def doubt(topic: Topic, partitions: int, seen: Iterable[tuple[bytes, int]], unread: bool) -> Doubt | None:
    """None: the declared partitioner explains them all, or isn't checked. seen: key and partition of some records.

    unread: whether this application has read nothing of the topic yet. Else there may be state, which another
    declaration would lose sight of, and a worker starts: one producer that was changed must not stop all of them.
    """
    declared, name = topic.partitioner, topic.name
    if not may_have_strays(topic, partitions):
        return None
    distinct = sorted({(key, number) for key, number in seen if key})  # librdkafka writes an empty key anywhere
    strays = [(key, number) for key, number in distinct if not belongs(key, number, partitions, declared)]
    if not strays:
        return None
    if all(CAPITALS in explanations(*place, partitions, declared) for place in strays):
        message = f"topic {name}: {len(strays)} of its last {len(distinct)} keys are UUIDs in capitals, which stand in "
        message += f"another partition than in lower case, such as {_shown(*strays[0])}"
        return Doubt(False, message, CAPITALS_MOVED)
    for other, by in KNOWN.items():
        if all(by(key, partitions) == number for key, number in distinct) and other != declared:
            message = f"the last {len(distinct)} keys of topic {name} are where {other} puts them: {_shown(*strays[0])}"
            sure = unread and len(strays) >= CONTRADICTED_MIN and partitions ** len(distinct) >= CHANCE
            return Doubt(sure, message, remedy(name, declared, other, unread))
    message = (
        f"topic {name}: {len(strays)} of its last {len(distinct)} keys aren't where {declared} puts them, such as "
    )
    message += _explained(strays[0], partitions, declared)
    fit = next((one for one in distinct if one not in strays), None)
    if fit is not None:
        message += f"; {_shown(*fit)} is"
    wanted = f"such records are rejected: set the partitioner of all its producers to {declared}"
    if any(canonical(key) != key for key, _ in strays):
        wanted += ", and write keys that are UUIDs in lower case"
    return Doubt(False, message, wanted)


def _explained(place: tuple[bytes, int], partitions: int, declared: str) -> str:
    found = sorted(explanations(*place, partitions, declared))
    return _shown(*place) + (f" ({', '.join(found)})" if found else "")


def _shown(key: bytes, number: int) -> str:
    return f"key {key.decode(errors='replace')[:KEY_CHARS_SHOWN]!r} in partition {number}"
