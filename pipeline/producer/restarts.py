"""How often a sender may fail by a fault of our own before somebody has to be told (S2)."""

import asyncio
from collections import deque

from aiokafka.errors import KafkaError

from pipeline.producer.errors import ProducerError

RESTARTS_MAX = 3
WITHIN_S = 5.0


class Restarts:
    """The restarts of one sender: RESTARTS_MAX within WITHIN_S are allowed, the next one escalates.

    failures: how many there were, none of them more than WITHIN_S after the one before.
    """

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=RESTARTS_MAX)
        self._last = 0.0
        self.failures = 0

    def allows(self, error: Exception) -> bool:
        """Whether to try it again as it is. What the cluster, the network or the disk says is never counted."""
        if isinstance(error, (ProducerError, KafkaError, OSError)):
            return True
        now = asyncio.get_running_loop().time()
        self.failures = self.failures + 1 if now - self._last <= WITHIN_S else 1
        self._last = now
        if len(self._at) == RESTARTS_MAX and now - self._at[0] <= WITHIN_S:
            return False
        self._at.append(now)
        return True
