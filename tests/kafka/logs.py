"""A partition's log on the disk of a broker that is down, shortened as a bad disk or an unclean election leaves it."""

from __future__ import annotations

import os
import struct

from tests.kafka.cluster import KafkaCluster

HEADER = struct.Struct(">qi")
"""Of a record batch: its first offset, and how many bytes follow."""


def keep_below(cluster: KafkaCluster, topic: str, partition: int, offset: int, node_id: int = 1) -> int:
    """Cut off every record batch that begins at `offset` or later; how many. The broker must not be running."""
    assert node_id not in cluster.running
    directory = cluster.nodes[node_id].directory / "data" / f"{topic}-{partition}"
    cut = 0
    for log in sorted(directory.glob("*.log")):
        data, at, end = log.read_bytes(), 0, 0
        while at + HEADER.size <= len(data):
            first, length = HEADER.unpack_from(data, at)
            at += HEADER.size + length
            if length <= 0 or at > len(data):
                break
            if first < offset:
                end = at
            else:
                cut += 1
        os.truncate(log, end)
    for file in directory.iterdir():  # Kafka makes them anew from the log
        if file.suffix != ".log" and file.name != "partition.metadata":
            file.unlink()
    return cut
