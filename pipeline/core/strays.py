"""Strays: records whose key belongs to another partition of their topic. What is one, and how many are too many.

Two producers with different partitioners put one key into two partitions, and each unit would count half of it. So a
stray is rejected. A topic whose producers all use another partitioner than the declared one has hardly anything else:
that mustn't end in the error topic record by record, so after KEYS_MAX keys or RECORDS_MAX records the next stray
blocks its unit.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeVar

from pipeline.core.homes import Homes
from pipeline.core.outcome import Blocked, Candidate, Rejected, Rejection
from pipeline.core.routing import KNOWN, canonical, is_anywhere, partition_of
from pipeline.core.topic import Topic

WRONG_PARTITION = "WrongPartition"
PARTITIONER = "partitioner"
"""The reason of a unit that strays have blocked."""
KEYS_MAX, RECORDS_MAX = 20, 200
"""Strays of so many keys in a row, or so many records of fewer keys, and the next one blocks."""
SEE = "docs/runbook.md, A partition blocked on partitioner"
CAPITALS = "capitals"
KEY_CHARS_SHOWN = 64

Item = TypeVar("Item")


def may_have_strays(topic: Topic, partitions: int) -> bool:
    """Whether there is something to be checked: a keyed topic, by a known partitioner, of more than one partition."""
    return topic.ordered and topic.partitioner in KNOWN and partitions > 1


def explanations(key: bytes, partition: int, partitions: int, declared: str) -> frozenset[str]:
    """What else would put this key here: other partitioners, or CAPITALS when the UUID as written belongs here."""
    found = {name for name, by in KNOWN.items() if name != declared and by(key, partitions) == partition}
    if canonical(key) != key and partition_of(key, partitions, declared) == partition:
        found.add(CAPITALS)
    return frozenset(found)


def remedy(topic: str, declared: str, other: str | None, unread: bool) -> str:
    """What to do about strays. other: the partitioner that explains them all, if a known one does.

    unread: whether nothing of the topic has been read before. Else its state is where the declared partitioner puts the
    keys, and with another declaration each key would begin anew in another partition.
    """
    wanted = f"set the producers' partitioner to {declared}"
    if other is not None and unread:
        return f"if its producers use {other}, declare {declaration(topic, other)}; else {wanted}"
    return f"{wanted}, see {SEE}"


def declaration(topic: str, partitioner: str) -> str:
    """The line that the catalogue needs."""
    return f'Topic("{topic}", …, partitioner="{partitioner}")'


class Run(NamedTuple):
    """Strays without a record between them that speaks for the declared partitioner.

    keys: theirs, at most KEYS_MAX. suspects: what explains all of them. records: how many, at most RECORDS_MAX.
    """

    keys: frozenset[bytes] = frozenset()
    suspects: frozenset[str] = frozenset()
    records: int = 0

    @property
    def full(self) -> bool:
        """Whether the next stray blocks."""
        return len(self.keys) >= KEYS_MAX or self.records >= RECORDS_MAX


class Strays:
    """Those of one source in one unit. Lives as long as its unit: a new owner counts anew.

    homes: what the process remembers. moved: topics that have another partition count than `partitions` now, so that
    nothing can be said of their keys. unread: topics of which nothing had been read before this process; one of which
    a record speaks for the declared partitioner is taken out.
    """

    def __init__(
        self,
        topic: Topic,
        partition: int,
        partitions: int,
        homes: Homes | None = None,
        moved: AbstractSet[str] = frozenset(),
        unread: set[str] | None = None,
    ) -> None:
        self._topic, self.partition, self._partitions = topic, partition, partitions
        self._homes, self._moved = Homes() if homes is None else homes, moved
        self._unread = set() if unread is None else unread
        self._checked = may_have_strays(topic, partitions)
        self.known = self._homes.table(topic.partitioner, partitions).get
        """Partition of a key, for who asks first there; None for one that isn't remembered."""
        self._run, self._seen = Run(), False

    @property
    def checks(self) -> bool:
        """Whether keys are checked, now."""
        return self._checked and self._topic.name not in self._moved

    def is_stray(self, key: bytes) -> bool:
        """Whether `key` belongs elsewhere, as `belongs` says, from what is remembered."""
        declared = self._topic.partitioner
        if is_anywhere(key, declared):
            return False
        if self._homes.find(canonical(key), declared, self._partitions) == self.partition:
            return False
        self._seen = True
        return True

    def begins_or_blocks(self, decided: Sequence[object]) -> bool:
        """Whether these decisions hold the first strays of a run, or one that blocks.

        Then it is time to see whether the topic has been given more partitions.
        """
        return self._seen and self.checks and (not self._run.records or type(decided[-1]) is Blocked)

    def rejection(self, key: bytes) -> Rejection:
        """Why a stray is rejected."""
        topic, declared = self._topic.name, self._topic.partitioner
        home = partition_of(canonical(key), self._partitions, declared)
        shown = key.decode(errors="replace")[:KEY_CHARS_SHOWN]
        message = f"key {shown!r} in partition {self.partition} belongs to partition {home} of {topic} by {declared}"
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
        if self._unread and self._topic.name in self._unread and any(map(self._speaks, decided)):
            self._unread.discard(self._topic.name)
        if not self._seen and not self._run.records:
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
            return Run(run.keys | {key}, run.suspects & explained if run.records else explained, run.records + 1)
        if type(one) is Candidate and run.records and not run.suspects & self._explained(one.record.key or b""):
            return Run()
        return run

    def _speaks(self, one: object) -> bool:
        """Whether this record is here by the declared partitioner, and by no other."""
        return type(one) is Candidate and not self._explained(one.record.key or b"")

    def _explained(self, key: bytes) -> frozenset[str]:
        return explanations(key, self.partition, self._partitions, self._topic.partitioner)

    def _blocked(self, record: object, rejection: Rejection, run: Run) -> Blocked:
        topic, declared = self._topic.name, self._topic.partitioner
        other = min(run.suspects - {CAPITALS}, default=None)
        many = f"{len(run.keys)} keys" if len(run.keys) >= KEYS_MAX else f"{run.records} records"
        told = remedy(topic, declared, other, topic in self._unread)
        message = f"strays of {many} in a row in {topic}[{self.partition}]; {rejection.message}; {told}"
        return Blocked(record, PARTITIONER, message)  # type: ignore[arg-type]


def _is_stray(one: object) -> bool:
    return type(one) is Rejected and one.rejection.error_class == WRONG_PARTITION
