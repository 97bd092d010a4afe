"""One digest per key that shows loss, double application and reorder at once: h = H(h ‖ msg_id ‖ value)."""

from __future__ import annotations

from hashlib import blake2b


class Chain:
    """Hash chains by key over first occurrences. Two runs agree on a key when its digests are equal."""

    def __init__(self) -> None:
        self.digests: dict[bytes, bytes] = {}
        self._seen: set[str] = set()

    def add(self, key: bytes, msg_id: str, value: bytes) -> bool:
        """Extend the chain of `key`; False, and no change, when `msg_id` was there before."""
        if msg_id in self._seen:
            return False
        self._seen.add(msg_id)
        digest = blake2b(self.digests.get(key, b""), digest_size=16)
        digest.update(msg_id.encode())
        digest.update(value)
        self.digests[key] = digest.digest()
        return True

    def differing(self, other: Chain) -> set[bytes]:
        """Keys whose digests differ, or that only one side has."""
        return {
            key for key in self.digests.keys() | other.digests.keys() if self.digests.get(key) != other.digests.get(key)
        }
