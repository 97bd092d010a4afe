"""Step 5: everything that leaves a batch goes out in few record batches, and every ack is awaited."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pipeline.core.homes import Homes
from pipeline.core.record import Outbound
from pipeline.core.routing import DEFAULT
from pipeline.runtime.ownership import Owner, ProducerBroken


class Partitioner:
    """Where outputs go; the partition of a key is remembered."""

    def __init__(self, partitions: Mapping[str, int], partitioners: Mapping[str, str], homes: Homes) -> None:
        """partitions, partitioners: topic → how many, and the declared one; murmur2 where there is none."""
        self._partitions, self._partitioners, self._homes = partitions, partitioners, homes
        self._known: dict[str, Callable[[bytes], int | None]] = {}

    def __call__(self, outbound: Outbound, default: int) -> int:
        """Where `outbound` goes; `default` (modulo the count) when it has neither partition nor key."""
        if outbound.partition is not None:
            return outbound.partition
        topic, key = outbound.topic, outbound.key
        if key is None:
            return default % self._partitions[topic]
        known = self._known.get(topic)
        partition = None if known is None else known(key)
        return self._find(topic, key) if partition is None else partition

    def _find(self, topic: str, key: bytes) -> int:
        by, partitions = self._partitioners.get(topic, DEFAULT), self._partitions[topic]
        if topic not in self._known:
            self._known[topic] = self._homes.table(by, partitions).get
        return self._homes.find(key, by, partitions)


async def publish(
    owner: Owner, outbounds: Iterable[Outbound], partition_of: Partitioner, default: int, tight: Mapping[str, int]
) -> None:
    """Write these records, in order within each partition; returns when the broker has acknowledged all of them.

    tight: topic → bytes of a record batch, of the topics that take less than the producer builds.
    """
    open_batches: dict[tuple[str, int], Any] = {}
    full: list[tuple[Any, str, int]] = []
    for outbound in outbounds:
        where = outbound.topic, partition_of(outbound, default)
        builder = open_batches.get(where)
        if (
            builder is not None
            and outbound.topic in tight
            and builder.size() + outbound.size_bytes() > tight[outbound.topic]
        ):
            full.append((builder, *where))
            builder = None
        if builder is None:
            builder = open_batches[where] = owner.new_batch()
        _, _, timestamp, key, value, headers = outbound
        if builder.append(timestamp=timestamp, key=key, value=value, headers=headers) is None:
            full.append((builder, *where))
            builder = open_batches[where] = owner.new_batch()
            if builder.append(timestamp=timestamp, key=key, value=value, headers=headers) is None:
                raise ProducerBroken(f"{owner.unit}: one record for {outbound.topic} doesn't fit a record batch")
    for builder, topic, partition in full:  # one after another: order within the partition
        await owner.send_batches([(builder, topic, partition)])
    await owner.send_batches([(builder, *where) for where, builder in open_batches.items()])
