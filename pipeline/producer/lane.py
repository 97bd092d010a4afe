"""What waits for one topic-partition, oldest first: `ready` in memory, then what is only on the disk, then `tail`.

Sequence numbers count a lane's messages. Where the three meet follows from them, so that nothing can disagree:

    head ........ ready_end ........ tail_first ........ next_seq
         ready              on disk             tail
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import accumulate, islice, takewhile
from operator import attrgetter
from weakref import WeakValueDictionary

from pipeline.producer.message import Delivery, Letter, Message, Single
from pipeline.producer.rows import LaneId, Row

SIZE = attrgetter("size")


class Lane:
    """One topic-partition's messages that aren't confirmed yet.

    rows: those on the disk that hold messages of `ready`. written: those that hold the first messages of `tail`, and
    aren't flushed yet.
    """

    def __init__(self, lane_id: LaneId, head: int = 0, next_seq: int = 0) -> None:
        self.id = lane_id
        self.head, self.next_seq = head, next_seq
        self.ready: deque[Letter] = deque()
        self.tail: deque[Letter] = deque()
        self.rows: deque[Row] = deque()
        self.written: deque[Row] = deque()
        self.rewrite = False
        self.wake = asyncio.Event()
        self._watched: WeakValueDictionary[int, Delivery] = WeakValueDictionary()

    @property
    def ready_end(self) -> int:
        """The sequence number behind `ready`."""
        return self.head + len(self.ready)

    @property
    def tail_first(self) -> int:
        """The sequence number of the first message of `tail`."""
        return self.next_seq - len(self.tail)

    @property
    def on_disk_only(self) -> int:
        """How many messages are between `ready` and `tail`."""
        return self.tail_first - self.ready_end

    @property
    def uncovered(self) -> int:
        """How many messages of `ready`, from its beginning, are in memory only."""
        return max(0, (self.rows[0].first if self.rows else self.ready_end) - self.head) if self.ready else 0

    def __len__(self) -> int:
        return self.next_seq - self.head

    def forget(self, first: int, messages: Iterable[Letter]) -> None:
        """These are on the disk only from now on; a caller who still holds a delivery keeps it."""
        for number, message in enumerate(messages, first):
            if message.delivery is not None:
                self._watched[number] = message.delivery
            if isinstance(message, Single):
                message.let_go()

    def remember(self, first: int, messages: Iterable[Message]) -> None:
        """These come back from the disk."""
        if self._watched:
            for number, message in enumerate(messages, first):
                message.delivery = self._watched.pop(number, None)

    def lost(self, first: int, end: int, error: Exception) -> None:
        """These can't be read any more: whoever waits for one is told."""
        for number in sorted(number for number in self._watched if first <= number < end):
            delivery = self._watched.pop(number, None)
            if delivery is not None:
                delivery.failed(error)


def fitting(messages: Sequence[Letter], bytes_max: int, messages_max: int) -> int:
    """How many of the first go within both limits; at least one, if there is one."""
    sizes = accumulate(map(SIZE, islice(messages, messages_max)))
    return len(list(takewhile(bytes_max.__ge__, sizes))) or min(1, len(messages))
