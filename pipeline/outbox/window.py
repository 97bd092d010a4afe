"""Rows that are in memory: read, being sent, or sent and not yet marked. Bounded, and no topic may have it all.

No input or output here. Rows of a topic leave in order of id, one chunk at a time: a chunk is at most one request a
partition, so what the cluster refuses of a topic is refused together, and is sent again in order.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pipeline.core.backoff import Backoff
from pipeline.outbox.rows import Row, Waiting

ROW_OVERHEAD_BYTES = 128
"""More than a producer counts for a record besides its bytes."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """rows, bytes: in memory at once; a topic has at most a quarter. A row that is larger than that isn't even read.

    chunk_rows, chunk_bytes: what is sent together; bytes stay under one record batch.
    """

    rows: int = 20_000
    bytes: int = 64 << 20
    chunk_rows: int = 2_000
    chunk_bytes: int = 800_000


@dataclass(slots=True)
class Queue:
    """One topic's rows. proven: the cluster has taken one. held_until: nothing is sent before; `why` says why."""

    topic: str
    waiting: deque[tuple[Row, int]] = field(default_factory=deque)
    sending: list[Row] = field(default_factory=list)
    sending_since: float = 0.0
    rows: int = 0
    bytes: int = 0
    proven: bool = False
    refusals: int = 0
    held_until: float = 0.0
    why: str = ""


class Window:
    """The rows in memory, by topic."""

    def __init__(self, bounds: Bounds, hold: Backoff) -> None:
        self._bounds, self._hold = bounds, hold
        self._queues: dict[str, Queue] = {}
        self._taken: dict[int, tuple[str, int]] = {}
        self._bytes = 0

    def emptied(self) -> "Window":
        """One with the same bounds and nothing in it."""
        return Window(self._bounds, self._hold)

    @property
    def taken(self) -> int:
        """How many rows are in memory."""
        return len(self._taken)

    @property
    def room(self) -> int:
        """How many rows more may be read now; 0 until there is a good part of a chunk."""
        room = min(self._bounds.rows - len(self._taken), self._bounds.chunk_rows)
        return room if room * 4 >= self._bounds.chunk_rows and self._bytes < self._bounds.bytes else 0

    def closed(self, now: float) -> set[str]:
        """Topics of which nothing more may be read now: held, or with their share in memory."""
        return {queue.topic for queue in self._queues.values() if now < queue.held_until or not self._has_share(queue)}

    def choose(self, waiting: Iterable[Waiting]) -> tuple[list[Waiting], list[Waiting]]:
        """(rows to read next, rows too large to be read). Of each topic the first ones, without a gap."""
        chosen: list[Waiting] = []
        too_large: list[Waiting] = []
        full: set[str] = set()
        sizes = self._bytes
        counts: dict[str, tuple[int, int]] = {}
        for row in waiting:
            if row.id in self._taken or row.topic in full:
                continue
            more = row.bytes + ROW_OVERHEAD_BYTES
            if not self._fits(0, more):
                too_large.append(row)
                continue
            queue = self._queues.get(row.topic)
            rows, size = counts.get(row.topic, (queue.rows, queue.bytes) if queue else (0, 0))
            if not self._fits(rows, size + more) or sizes + more > self._bounds.bytes:
                full.add(row.topic)
                continue
            counts[row.topic] = rows + 1, size + more
            sizes += more
            chosen.append(row)
        return chosen, too_large

    def add(self, rows: Iterable[Row], sizes: dict[int, int]) -> None:
        """These were read, in order of id. sizes: bytes by id, as `choose` had them."""
        for row in rows:
            queue = self._queues.get(row.topic)
            if queue is None:
                queue = self._queues[row.topic] = Queue(row.topic)
            size = sizes[row.id] + ROW_OVERHEAD_BYTES
            queue.waiting.append((row, size))
            queue.rows += 1
            queue.bytes += size
            self._taken[row.id] = row.topic, size
            self._bytes += size

    def chunks(self, now: float) -> Iterator[Queue]:
        """Take the next chunk of each topic that may send now: into `sending`. One row, until the topic is proven."""
        for queue in self._queues.values():
            if queue.sending or not queue.waiting or now < queue.held_until:
                continue
            size = 0
            while queue.waiting and len(queue.sending) < (self._bounds.chunk_rows if queue.proven else 1):
                row, row_size = queue.waiting[0]
                size += row_size
                if queue.sending and size > self._bounds.chunk_bytes:
                    break
                queue.sending.append(row)
                queue.waiting.popleft()
            queue.sending_since = now
            yield queue

    def taken_by_kafka(self, queue: Queue) -> None:
        """The cluster takes rows of this topic."""
        queue.proven, queue.refusals, queue.why = True, 0, ""

    def hold(self, queue: Queue, now: float, why: str, refused: Iterable[int]) -> None:
        """The cluster refuses the topic: its rows leave memory and are read again later, the oldest first."""
        queue.refusals += 1
        queue.proven, queue.why = False, why
        queue.held_until = now + self._hold.bound_s(queue.refusals)
        self.forget([*refused, *(row.id for row, _ in queue.waiting)])
        queue.waiting.clear()

    def forget(self, ids: Iterable[int]) -> None:
        """These leave memory: marked, or to be read again."""
        for id_ in ids:
            topic, size = self._taken.pop(id_)
            queue = self._queues[topic]
            queue.rows -= 1
            queue.bytes -= size
            self._bytes -= size
            if not queue.rows and not queue.proven and not queue.why:  # a name that no row has any more
                del self._queues[topic]

    def held(self) -> dict[str, str]:
        """Topic → why it is held."""
        return {queue.topic: queue.why for queue in self._queues.values() if queue.why}

    def sending_since(self) -> float | None:
        """Since when the oldest chunk has been waiting for its confirmation."""
        return min((queue.sending_since for queue in self._queues.values() if queue.sending), default=None)

    def _has_share(self, queue: Queue) -> bool:
        return self._fits(queue.rows, queue.bytes)

    def _fits(self, rows: int, size: int) -> bool:
        return rows < self._bounds.rows // 4 and size <= self._bounds.bytes // 4
