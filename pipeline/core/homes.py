"""Which partition each key belongs to, remembered: the hash costs more than all the rest of decoding a record."""

from collections import defaultdict

from pipeline.core.routing import DEFAULT, KNOWN, canonical, partition_of

KEYS_MAX, KEY_BYTES_MAX = 100_000, 256
"""Of a process, over all its units and topics (some 20 MB), and the largest of them."""


class Homes:
    """What the units of a process share. Topics with the same partitioner and partition count share their keys."""

    def __init__(self) -> None:
        self._tables: defaultdict[tuple[str, int], dict[bytes, int]] = defaultdict(dict)
        self._left = KEYS_MAX

    def table(self, partitioner: str, partitions: int) -> dict[bytes, int]:
        """key → partition of those that are remembered. To read only; it stays the same one, also when it is emptied.

        A UUID with capitals is in none: whether it counts as its lower case depends on who asks.
        """
        return self._tables[partitioner if partitioner in KNOWN else DEFAULT, partitions]

    def find(self, key: bytes, partitioner: str, partitions: int) -> int:
        """The partition of this key as it is written; remembered from now on."""
        table = self.table(partitioner, partitions)
        home = table.get(key)
        if home is None:
            home = partition_of(key, partitions, partitioner)
            if len(key) <= KEY_BYTES_MAX and canonical(key) == key:
                if not self._left:
                    self._clear()
                self._left -= 1
                table[key] = home
        return home

    def _clear(self) -> None:
        for known in self._tables.values():
            known.clear()
        self._left = KEYS_MAX

    def __len__(self) -> int:
        return KEYS_MAX - self._left
