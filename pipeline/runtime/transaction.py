"""exactly_once: a unit's outputs, rows and offsets in one Kafka transaction.

The producer keeps the transactional id that fences it (see `ownership`). What a batch sends from `begin` to `commit`
becomes visible together, or not at all: when anything fails in between, the producer is abandoned, its successor's
start aborts what was open, and the work is redone from where the changelog ends then.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from pipeline.core.start import commit_metadata
from pipeline.core.state import Row
from pipeline.runtime.ownership import BATCH_BYTES_MAX, Owner, ProducerBroken

END_WITHIN_S = 20.0
"""A commit that isn't answered by then may have happened: the next owner finds out."""
ABORT_WITHIN_S = 0.5


class TransactionalOwner(Owner):
    """An Owner whose every write is part of a transaction; rows appended outside of one get one of their own."""

    TRANSACTIONAL = True
    TRANSACTION_TIMEOUT_MIN_MS = 5_000
    """With less, a large batch would be aborted and redone for ever."""

    def __init__(self, producer: AIOKafkaProducer, *args: Any) -> None:
        super().__init__(producer, *args)
        self._open = self._in_batch = False
        self._one_at_a_time = asyncio.Lock()

    async def begin(self) -> None:
        """Open the transaction of a batch."""
        await self._begin()
        self._in_batch = True

    async def _begin(self) -> None:
        with self._told("its transaction"):
            await (
                self._producer.begin_transaction()
            )  # refused when an earlier one has failed: the producer is of no use
        self._open = True

    async def commit(
        self, offsets: Mapping[tuple[str, int], int], group: str, topic_ids: Mapping[str, str] | None = None
    ) -> None:
        """Add the offsets and commit: outputs, rows and offsets are visible from here on."""
        self.require_lease()
        try:
            with self._told("its transaction"):
                async with asyncio.timeout(END_WITHIN_S):
                    if offsets:
                        stored = {
                            TopicPartition(*source): OffsetAndMetadata(
                                offset, commit_metadata((topic_ids or {}).get(source[0], ""))
                            )
                            for source, offset in offsets.items()
                        }
                        await self._producer.send_offsets_to_transaction(stored, group)
                    await self._producer.commit_transaction()
        except TimeoutError as error:
            raise ProducerBroken(f"{self.unit}: its transaction did not end within {END_WITHIN_S:.0f} s") from error
        self._open = self._in_batch = False

    async def abandon(self, timeout_s: float = 3.0) -> None:
        """As Owner's; an open transaction, which holds back who reads committed, is aborted if the broker answers."""
        if self._open:
            self._open = False
            with contextlib.suppress(Exception):
                async with asyncio.timeout(min(timeout_s, ABORT_WITHIN_S)):
                    await self._producer.abort_transaction()
        await super().abandon(timeout_s)

    async def append_rows(
        self,
        topic: str,
        partition: int,
        events: Iterable[Sequence[Row]],
        bytes_max: int = BATCH_BYTES_MAX - 1000,
        closing: Callable[[int], Row] | None = None,
    ) -> int:
        """As Owner's: inside the batch's transaction when that is open, else in one of its own."""
        if self._in_batch:
            return await super().append_rows(topic, partition, events, bytes_max, closing)
        async with self._one_at_a_time:
            await self._begin()
            end = await super().append_rows(topic, partition, events, bytes_max, closing)
            await self.commit({}, "")
        return end
