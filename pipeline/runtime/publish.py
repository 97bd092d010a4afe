"""Step 5: everything that leaves a batch goes out in few record batches, and every ack is awaited."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.core.record import Outbound
from pipeline.core.routing import partition_of
from pipeline.runtime.ownership import Owner, ProducerBroken

KEYS_REMEMBERED = 50_000


class Partitioner:
    """Partition of a key, remembered: the hash in Python costs more than the rest of publishing a record."""

    def __init__(self, partitions: Mapping[str, int], partitioners: Mapping[str, str]) -> None:
        """partitions, partitioners: topic → how many, and the declared one; murmur2 where there is none."""
        self._partitions, self._partitioners = partitions, partitioners
        self._known: defaultdict[str, dict[bytes, int]] = defaultdict(dict)

    def __call__(self, outbound: Outbound, default: int) -> int:
        """Where `outbound` goes; `default` (modulo the count) when it has neither partition nor key."""
        if outbound.partition is not None:
            return outbound.partition
        topic, key = outbound.topic, outbound.key
        if key is None:
            return default % self._partitions[topic]
        known = self._known[topic]
        partition = known.get(key)
        if partition is None:
            if len(known) >= KEYS_REMEMBERED:
                known.clear()
            by = self._partitioners.get(topic, "murmur2")
            partition = known[key] = partition_of(key, self._partitions[topic], by)
        return partition


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
