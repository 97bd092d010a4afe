"""A message while we have it, and its caller's view of it."""

import asyncio
from collections.abc import Generator
from typing import Any, NamedTuple

from pipeline.producer.rows import LaneId

OVERHEAD_BYTES = 64
"""What a message takes besides its bytes, on the wire and on the disk; a generous estimate."""

Headers = list[tuple[str, bytes]]
NO_HEADERS: Headers = []
"""Shared; nobody changes it."""
NEVER = -1
"""So many messages aren't stored yet, where a producer isn't durable."""


class Place(NamedTuple):
    """Where a message was confirmed. offset: -1 when the broker had it already and doesn't say where."""

    topic: str
    partition: int
    offset: int


class Delivery:
    """One call of `produce`. `await delivery`: confirmed by the broker, the Place of its last message.

    Raises the error that ended it. `await delivery.accepted()` is done as soon as we answer for it. Cancelling
    whoever waits takes nothing back.
    """

    __slots__ = (
        "__weakref__",
        "_confirming",
        "_holder",
        "_offset",
        "_storing",
        "_unsettled",
        "_unstored",
        "_where",
        "error",
    )

    def __init__(self, holder: "set[Delivery]", messages: int = 1, stores: bool = False) -> None:
        """holder: keeps a delivery alive while somebody waits for it. stores: accepted means fsynced."""
        self._where: LaneId | None = None
        self.error: Exception | None = None
        self._holder = holder
        self._unsettled = messages
        self._unstored = messages if stores else NEVER
        self._confirming: asyncio.Future[None] | None = None
        self._storing: asyncio.Future[None] | None = None

    @property
    def place(self) -> Place | None:
        """Where the last message is, once one is confirmed."""
        return None if self._where is None else self._place(self._where)

    @property
    def done(self) -> bool:
        """Confirmed or failed."""
        return not self._unsettled

    @property
    def is_accepted(self) -> bool:
        """Confirmed, or fsynced where the producer is durable."""
        return not self._unstored or (not self._unsettled and self.error is None)

    def __await__(self) -> Generator[Any, None, Place]:
        if self._unsettled:
            if self._confirming is None:
                self._confirming = asyncio.get_running_loop().create_future()
                self._holder.add(self)
            yield from asyncio.shield(self._confirming).__await__()
        if self.error is not None:
            raise self.error
        assert self._where is not None
        return self._place(self._where)

    async def accepted(self) -> None:
        """Return when we answer for it: on the disk in durable mode, otherwise confirmed. Raises as `await` does."""
        if self._unstored and self._unsettled:
            if self._storing is None:
                self._storing = asyncio.get_running_loop().create_future()
                self._holder.add(self)
            await asyncio.shield(self._storing)
        if self.error is not None and self._unstored:
            raise self.error

    def stored(self) -> None:
        """One of its messages is on the disk."""
        if self._unstored > 0:
            self._unstored -= 1
            if not self._unstored and self._storing is not None:
                self._wake(self._storing)

    def confirmed(self, where: LaneId, offset: int) -> None:
        """One of its messages is on the topic, in a partition, at an offset."""
        self._where, self._offset = where, offset
        self._unsettled -= 1
        if not self._unsettled and (self._confirming is not None or self._storing is not None):
            self._settled()

    def failed(self, error: Exception) -> None:
        """One of its messages will never be on the topic; the first error is kept."""
        self.error = self.error or error
        self._unsettled -= 1
        if not self._unsettled:
            self._settled()

    def _place(self, where: LaneId) -> Place:
        assert where.partition is not None
        return Place(where.topic, where.partition, self._offset)

    def _settled(self) -> None:
        for waiting in (self._confirming, self._storing):
            if waiting is not None:
                self._wake(waiting)
        self._holder.discard(self)

    def _wake(self, waiting: "asyncio.Future[None]") -> None:
        if not waiting.done():
            waiting.set_result(None)
        if self._confirming is None:
            self._holder.discard(self)


class Message:
    """One message. delivery: None when its caller was another process, or has gone."""

    __slots__ = ("delivery", "headers", "key", "size", "timestamp_ms", "value")

    def __init__(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        timestamp_ms: int,
        size: int,
        delivery: Delivery | None = None,
    ) -> None:
        self.key, self.value, self.headers = key, value, headers
        self.timestamp_ms, self.size, self.delivery = timestamp_ms, size, delivery


class Single(Delivery):
    """A message and its caller's view of it in one, for a call with one message: what Python counts and frees is half.

    The caller may keep it for ever, so it lets go of the message's bytes as soon as memory needn't hold them.
    """

    __slots__ = ("headers", "key", "size", "timestamp_ms", "value")

    def __init__(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        timestamp_ms: int,
        size: int,
        holder: "set[Delivery]",
        stores: bool = False,
    ) -> None:
        self.key, self.value, self.headers = key, value, headers
        self.timestamp_ms, self.size = timestamp_ms, size
        self._where = self.error = self._confirming = self._storing = None
        self._holder = holder
        self._unsettled = 1
        self._unstored = 1 if stores else NEVER

    @property
    def delivery(self) -> Delivery:
        """As of a Message."""
        return self

    def let_go(self) -> None:
        """The message's bytes are on the topic, or on the disk."""
        self.key = self.value = None
        self.headers = NO_HEADERS

    def confirmed(self, where: LaneId, offset: int) -> None:
        self.key = self.value = None
        self.headers = NO_HEADERS
        self._where, self._offset, self._unsettled = where, offset, 0
        if self._confirming is not None or self._storing is not None:
            self._settled()

    def failed(self, error: Exception) -> None:
        self.let_go()
        super().failed(error)


Letter = Message | Single


class Undelivered(NamedTuple):
    """A message that the broker refuses for good. error: the protocol's name; code: its number, if it has one."""

    id: str
    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    error: str
    code: int | None
    reason: str
    attempts: int
    at_ms: int
