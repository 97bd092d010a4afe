"""Every lane of a producer within its limits: in memory, over that on the disk, in order, until confirmed."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from pipeline.producer.errors import BufferFull, SpillDamaged, SpillUnusable
from pipeline.producer.lane import SIZE, Lane, fitting
from pipeline.producer.limits import Limits, Load
from pipeline.producer.message import Delivery, Letter
from pipeline.producer.rows import LaneId, Row
from pipeline.producer.spill import ROW_BYTES_MAX, ROW_MESSAGES_MAX, Spill

log = logging.getLogger("hardparts.producer")


class Buffer:
    """Lanes by topic-partition. Everything here runs on the event loop and never waits.

    on_trouble: told when the disk begins to fail, and (None) when it works again.
    """

    def __init__(
        self, limits: Limits, spill: Spill | None, durable: bool, on_trouble: Callable[[SpillUnusable | None], None]
    ) -> None:
        self.limits, self.spill, self.durable = limits, spill, durable
        self.trouble: SpillUnusable | None = None
        self.lanes: dict[LaneId, Lane] = {}
        self.holder: set[Delivery] = set()
        self.memory_messages = self.memory_bytes = self.disk_messages = self.disk_bytes = 0
        self.lost_messages = self._waiting = self._copies = self._copies_bytes = 0
        self.drained = asyncio.Event()
        self.drained.set()
        self._on_trouble = on_trouble
        self._unremoved: list[tuple[LaneId, Row]] = []
        if spill is not None:
            self._load(spill)

    def load(self) -> Load:
        """The numbers now."""
        messages, bytes_ = self.memory_messages + self._copies, self.memory_bytes + self._copies_bytes
        return Load(self._waiting, messages, bytes_, self.disk_messages, self.disk_bytes)

    def lane(self, lane_id: LaneId) -> Lane:
        """The lane, made when it is first asked for."""
        lane = self.lanes.get(lane_id)
        if lane is None:
            lane = self.lanes[lane_id] = Lane(lane_id)
        return lane

    def add(self, lane: Lane, messages: Sequence[Letter], size: int) -> None:
        """Append to a lane, all or none. Raises BufferFull."""
        limits, count = self.limits, len(messages)
        if self.durable and self._disk_is_full():
            raise BufferFull(f"{self.disk_messages} messages ({self.disk_bytes} bytes) wait on the disk, at its cap")
        if self.memory_bytes + size > limits.memory_bytes or self.memory_messages + count > limits.memory_messages:
            self._make_room(lane, count, size)
        lane.tail.extend(messages)
        lane.next_seq += count
        if not self._waiting:
            self.drained.clear()
        self._waiting += count
        self.memory_messages += count
        self.memory_bytes += size
        lane.wake.set()

    def add_one(self, lane: Lane, message: Letter, size: int) -> None:
        """`add` of one message, which most calls are."""
        limits = self.limits
        bytes_ = self.memory_bytes + size
        if self.durable or bytes_ > limits.memory_bytes or self.memory_messages >= limits.memory_messages:
            self.add(lane, (message,), size)
            return
        lane.tail.append(message)
        lane.next_seq += 1
        if not self._waiting:
            self.drained.clear()
        self._waiting += 1
        self.memory_messages += 1
        self.memory_bytes = bytes_
        lane.wake.set()

    def take(self, lane: Lane, bytes_max: int, messages_max: int) -> list[Letter]:
        """The oldest messages, to be sent: they stay here until `confirm` or `refuse`. Empty when there are none."""
        if not lane.ready:
            if lane.on_disk_only:
                self._read(lane, bytes_max, messages_max)
            if not lane.ready and not lane.on_disk_only:
                self._advance(lane, bytes_max, messages_max)
        messages_max = min(messages_max, lane.uncovered or messages_max)
        return list(islice(lane.ready, fitting(lane.ready, bytes_max, messages_max)))

    def confirm(self, lane: Lane, count: int, places: Iterable[tuple[LaneId, int]]) -> None:
        """So many of the oldest messages are on the topic, at these places: (partition, offset)."""
        popleft, size, covered = lane.ready.popleft, 0, not lane.uncovered
        for where, offset in places:
            message = popleft()
            size += message.size
            if message.delivery is not None:
                message.delivery.confirmed(where, offset)
        self._gone(lane, count, size, covered=covered)

    def refuse(self, lane: Lane, error: Exception) -> None:
        """The oldest message will never be on the topic."""
        covered = not lane.uncovered
        message = lane.ready.popleft()
        if message.delivery is not None:
            message.delivery.failed(error)
        self._gone(lane, 1, message.size, covered=covered)

    def failing(self, error: SpillUnusable) -> None:
        """The disk doesn't work: what is in memory stays there."""
        for lane in self.lanes.values():
            lane.rewrite = bool(lane.written)
            lane.wake.set()
        if self.trouble is None:
            log.error("spill unusable: %s", error)
            self.trouble = error
            self._on_trouble(error)
        self.trouble = error

    def working(self) -> None:
        """The disk works again."""
        if self.trouble is not None:
            log.info("spill works again")
            self.trouble = None
            self._on_trouble(None)
        self._remove()

    def _disk_is_full(self) -> bool:
        """Whether a cap of the disk is reached."""
        return self.disk_messages >= self.limits.disk_messages or self.disk_bytes >= self.limits.disk_bytes

    def _leave_memory(self, messages: int, size: int) -> None:
        """So much isn't in memory any more."""
        self.memory_messages -= messages
        self.memory_bytes -= size

    def _load(self, spill: Spill) -> None:
        """What an earlier process left."""
        for lane_id, row in spill.scan():
            lane = self.lanes.get(lane_id)
            if lane is None:
                lane = self.lanes[lane_id] = Lane(lane_id, row.first, row.first)
            self._count(max(lane.next_seq, row.end) - lane.next_seq)
            lane.next_seq = max(lane.next_seq, row.end)
            self.disk_messages += row.messages
            self.disk_bytes += row.bytes
            lane.wake.set()

    def _make_room(self, lane: Lane, count: int, size: int) -> None:
        """Oldest waiting messages go to the disk. Raises BufferFull."""
        limits = self.limits
        if count > limits.memory_messages or size > limits.memory_bytes:
            raise BufferFull(f"one call with {count} messages ({size} bytes) is more than memory may hold")
        if self.spill is None:
            raise BufferFull(f"{self.memory_messages} messages ({self.memory_bytes} bytes) wait, and there is no spill")
        if self.trouble is not None:
            raise BufferFull(f"memory is full, and {self.trouble}")
        if self.durable:
            raise BufferFull("memory is full of messages that the disk hasn't flushed yet")
        while self.memory_messages + count > limits.memory_messages or self.memory_bytes + size > limits.memory_bytes:
            if self._disk_is_full():
                raise BufferFull(
                    f"{self.disk_messages} messages ({self.disk_bytes} bytes) wait on the disk, at its cap"
                )
            longest = (
                lane if len(lane.tail) >= ROW_MESSAGES_MAX else max(self.lanes.values(), key=lambda x: len(x.tail))
            )
            self._spill(longest)

    def _spill(self, lane: Lane) -> None:
        if not lane.tail:
            raise BufferFull("memory is full of messages that are being sent")
        assert self.spill is not None
        try:
            self.spill.room()
            rows = self._write_rows(lane, islice(lane.tail, ROW_MESSAGES_MAX), lane.tail_first)
        except SpillUnusable as error:
            self.failing(error)
            raise BufferFull(f"memory is full, and {error}") from error
        for row in rows:
            self._drop(lane, row)

    def _drop(self, lane: Lane, row: Row) -> None:
        """The first messages of `tail` are in this row on the disk, and leave memory."""
        first = lane.tail_first
        dropped = [lane.tail.popleft() for _ in range(row.messages)]
        lane.forget(first, dropped)
        self._leave_memory(row.messages, sum(map(SIZE, dropped)))

    def write_tail(self, lane: Lane) -> int:
        """Write what is new in `tail`, without a flush; how many messages. Raises SpillUnusable."""
        if lane.rewrite:  # the same rows again: others would overlap with what is there already
            at = 0
            for row in lane.written:
                self._write_again(lane, row, at)
                at += row.messages
            lane.rewrite = False
        done = sum(row.messages for row in lane.written)
        new = len(lane.tail) - done
        if new:
            first = lane.tail_first + done
            lane.written.extend(self._write_rows(lane, islice(lane.tail, done, None), first))
        return new

    def accept(self, lane: Lane) -> None:
        """What is written of `tail` is flushed: accepted, and to be sent; it leaves memory unless there is plenty."""
        limits = self.limits
        while lane.written:
            row = lane.written.popleft()
            for message in islice(lane.tail, row.messages):
                if message.delivery is not None:
                    message.delivery.stored()
            half = self._copies * 2 < limits.memory_messages and self._copies_bytes * 2 < limits.memory_bytes
            if half and not lane.on_disk_only:
                self._to_ready(lane, row.messages, row)
            else:
                self._drop(lane, row)
        lane.wake.set()

    def persist(self) -> None:
        """Write all that is in memory only, and flush it. Raises SpillUnusable."""
        assert self.spill is not None
        for lane in self.lanes.values():
            if lane.uncovered:
                self._write_rows(lane, islice(lane.ready, lane.uncovered), lane.head)
            self.write_tail(lane)
        self.spill.sync()

    def end(self, error: Exception) -> None:
        """Nothing more will be sent: whoever waits is told."""
        for lane in self.lanes.values():
            for message in (*lane.ready, *lane.tail):
                if message.delivery is not None:
                    message.delivery.failed(error)
            lane.lost(lane.head, lane.next_seq, error)

    def _read(self, lane: Lane, bytes_max: int, messages_max: int) -> None:
        """The oldest rows from the disk; what can't be read is reported and passed over."""
        assert self.spill is not None
        first, end = lane.head, lane.tail_first
        rows, messages = self.spill.read(lane.id, first, end, bytes_max, messages_max)
        found = rows[0].first if rows else end
        if found > first:
            lost = found - first
            error = SpillDamaged(f"{lane.id.topic}[{lane.id.partition}]: {lost} messages on the disk can't be read")
            log.error("spill damaged: %s", error)
            self.lost_messages += lost
            lane.lost(first, found, error)
            lane.head = found
            self._count(-lost)
        lane.remember(found, messages)
        lane.ready.extend(messages)
        lane.rows.extend(rows)
        self._copies += len(messages)
        self._copies_bytes += sum(map(SIZE, messages))

    def _advance(self, lane: Lane, bytes_max: int, messages_max: int) -> None:
        """Messages that are in memory only become those to be sent next."""
        if not self.durable:
            count = fitting(lane.tail, bytes_max, messages_max)
            if count == len(lane.tail):
                lane.ready, lane.tail = lane.tail, lane.ready
            else:
                self._to_ready(lane, count)
        elif self.trouble is not None:  # the disk fails: the broker's ack is the other way to be accepted
            if lane.written:
                row = lane.written.popleft()
                self._to_ready(lane, row.messages, row)
            else:
                self._to_ready(lane, min(len(lane.tail), messages_max))

    def _to_ready(self, lane: Lane, count: int, row: Row | None = None) -> None:
        popleft = lane.tail.popleft
        moved = [popleft() for _ in range(count)]
        lane.ready.extend(moved)
        if row is not None:
            lane.rows.append(row)
            size = sum(map(SIZE, moved))
            self._leave_memory(count, size)
            self._copies += count
            self._copies_bytes += size

    def _count(self, messages: int) -> None:
        """So many more wait, or fewer."""
        self._waiting += messages
        if self._waiting:
            self.drained.clear()
        else:
            self.drained.set()

    def _gone(self, lane: Lane, count: int, size: int, *, covered: bool) -> None:
        if covered:
            self._copies -= count
            self._copies_bytes -= size
        else:
            self._leave_memory(count, size)
        lane.head += count
        self._count(-count)
        gone = []
        while lane.rows and lane.rows[0].end <= lane.head:
            gone.append((lane.id, lane.rows.popleft()))
        if gone:
            self._unremoved += gone
            self._remove()

    def _remove(self) -> None:
        """Rows that are done with leave the disk; if it doesn't let them, later."""
        if not self._unremoved or self.spill is None:
            return
        try:
            self.spill.remove(self._unremoved)
        except SpillUnusable as error:
            self.failing(error)
            return
        self.disk_messages -= sum(row.messages for _, row in self._unremoved)
        self.disk_bytes -= sum(row.bytes for _, row in self._unremoved)
        self._unremoved.clear()

    def _write_rows(self, lane: Lane, messages: Iterable[Letter], first: int) -> list[Row]:
        assert self.spill is not None
        rows: list[tuple[LaneId, int, list[Letter]]] = []
        row: list[Letter] = []
        size = 0
        for message in messages:
            if row and (len(row) >= ROW_MESSAGES_MAX or size + message.size > ROW_BYTES_MAX):
                rows.append((lane.id, first, row))
                first, row, size = first + len(row), [], 0
            row.append(message)
            size += message.size
        if row:
            rows.append((lane.id, first, row))
        written = self.spill.write(rows)
        self.disk_messages += sum(row.messages for row in written)
        self.disk_bytes += sum(row.bytes for row in written)
        return written

    def _write_again(self, lane: Lane, row: Row, at: int) -> None:
        assert self.spill is not None
        self.spill.write([(lane.id, row.first, list(islice(lane.tail, at, at + row.messages)))])
