"""Strays: records whose key belongs to another partition of their topic. What is one, and how many are too many.

Two producers with different partitioners put one key into two partitions, and each unit would count half of it. So a
stray is rejected. A topic whose producers all use another partitioner than the declared one has hardly anything else:
that mustn't end in the error topic record by record, so after KEYS_MAX keys the next stray blocks its unit.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from pipeline.core.outcome import Blocked, Candidate, Rejected, Rejection
from pipeline.core.routing import KNOWN, belongs, canonical, partition_of
from pipeline.core.topic import Topic

WRONG_PARTITION = "WrongPartition"
PARTITIONER = "partitioner"
"""The reason of a unit that strays have blocked."""
KEYS_MAX = 20
"""Strays of so many keys in a row, and the next one blocks."""
REMEMBERED_MAX, REMEMBERED_BYTES_MAX = 20_000, 256
"""Keys that are known to belong, of one source and unit, and the largest of them."""
CAPITALS = "capitals"
KEY_CHARS_SHOWN = 64

Item = TypeVar("Item")


def explanations(key: bytes, partition: int, partitions: int, declared: str) -> frozenset[str]:
    """What else would put this key here: other partitioners, or CAPITALS when the UUID as written belongs here."""
    found = {name for name, by in KNOWN.items() if name != declared and by(key, partitions) == partition}
    if canonical(key) != key and partition_of(key, partitions, declared) == partition:
        found.add(CAPITALS)
    return frozenset(found)


def declaration(topic: str, partitioner: str) -> str:
    """The line that the catalogue needs."""
    return f'Topic("{topic}", …, partitioner="{partitioner}")'


class Run(NamedTuple):
    """Strays without a record between them that speaks for the declared partitioner.

    keys: theirs, at most KEYS_MAX. suspects: what explains all of them.
    """

    keys: frozenset[bytes] = frozenset()
    suspects: frozenset[str] = frozenset()

    @property
    def full(self) -> bool:
        """Whether the next stray blocks."""
        return len(self.keys) >= KEYS_MAX


class Strays:
    """Those of one source in one unit. Lives as long as its unit: a new owner counts anew."""

    def __init__(self, topic: Topic, partition: int, partitions: int) -> None:
        self._topic, self._partition, self._partitions = topic, partition, partitions
        self.checks = topic.key is not None and topic.partitioner in KNOWN and partitions > 1
        self.here: set[bytes] = set()
        self._run, self._seen = Run(), False

    def is_stray(self, key: bytes) -> bool:
        """Whether `key` belongs elsewhere. Those that belong here are remembered in `here`, for who asks first there:
        the hash costs as much as all the rest of decoding a record.
        """
        if not belongs(key, self._partition, self._partitions, self._topic.partitioner):
            self._seen = True
            return True
        if len(self.here) >= REMEMBERED_MAX:
            self.here.clear()
        if len(key) <= REMEMBERED_BYTES_MAX:
            self.here.add(key)
        return False

    def rejection(self, key: bytes) -> Rejection:
        """Why a stray is rejected."""
        topic, declared = self._topic.name, self._topic.partitioner
        home = partition_of(canonical(key), self._partitions, declared)
        shown = key.decode(errors="replace")[:KEY_CHARS_SHOWN]
        message = f"key {shown!r} in partition {self._partition} belongs to partition {home} of {topic} by {declared}"
        for other in sorted(self._explained(key) - {CAPITALS}):
            message += f"; {other} puts it here"
        if canonical(key) != key:
            message += "; keys that are UUIDs are written in lower case"
        return Rejection(WRONG_PARTITION, message)

    def cut(self, decided: Sequence[Item]) -> list[Item | Blocked]:
        """These decisions up to the first stray that is one too many, which blocks."""
        run, kept = self._run, list[Item | Blocked]()
        for one in decided if self._seen else ():
            if _is_stray(one) and run.full:
                return [*kept, self._blocked(one.record, one.rejection, run)]  # type: ignore[attr-defined]
            run = self._after(run, one)
            kept.append(one)
        return kept if self._seen else list(decided)

    def finished(self, decided: Sequence[object]) -> None:
        """The records of these decisions are finished, in this order: now they count."""
        if not self._seen and not self._run.keys:
            return
        for one in decided:
            self._run = self._after(self._run, one)
        self._seen = False

    def _after(self, run: Run, one: object) -> Run:
        """A record in its place ends the run, unless a suspect would have put it here too: then it proves nothing.

        So a topic of another partitioner, of which one key in n is in its place by chance, can't go on for long.
        """
        if _is_stray(one):
            key = one.record.key or b""  # type: ignore[attr-defined]
            explained = self._explained(key)
            if run.full:
                return run
            return Run(run.keys | {key}, run.suspects & explained if run.keys else explained)
        if type(one) is Candidate and run.keys and not run.suspects & self._explained(one.record.key or b""):
            return Run()
        return run

    def _explained(self, key: bytes) -> frozenset[str]:
        return explanations(key, self._partition, self._partitions, self._topic.partitioner)

    def _blocked(self, record: object, rejection: Rejection, run: Run) -> Blocked:
        topic, declared = self._topic.name, self._topic.partitioner
        others = sorted(run.suspects - {CAPITALS})
        remedy = f"set the producers' partitioner to {declared}"
        if others:
            remedy = f"if its producers use {others[0]}, declare {declaration(topic, others[0])}; else {remedy}"
        message = f"strays of {KEYS_MAX} keys in a row in {topic}[{self._partition}]; {rejection.message}; {remedy}"
        return Blocked(record, PARTITIONER, message)  # type: ignore[arg-type]


def _is_stray(one: object) -> bool:
    return type(one) is Rejected and one.rejection.error_class == WRONG_PARTITION
