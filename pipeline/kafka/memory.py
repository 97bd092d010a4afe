"""What the clients of one process remember of their cluster together: its id, and which addresses don't answer."""

import random
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipeline.core.errors import HardpartsError
from pipeline.files import write_whole
from pipeline.kafka.contact import Address, Contact

PAUSE_MIN_S, PAUSE_MAX_S = 0.1, 0.5
"""Between two attempts at an address that doesn't answer, by all clients of the process together."""
PAUSE_OF_SILENCE = 1 / 200
"""The pause grows with the silence: a broker that restarts is found at once, a dead address isn't hammered."""
JITTER = 0.2
"""The share by which a pause is longer or shorter: processes that lost a broker together don't come back in step."""


class OtherCluster(HardpartsError):
    """Where our cluster is expected, another one answers: its id isn't the one that this process works with.

    kept_in: the file that keeps our id beyond the process.
    """

    def __init__(self, known: str, answered: str, address: Address, kept_in: Path | None = None) -> None:
        self.known, self.answered, self.address = known, answered, f"{address[0]}:{address[1]}"
        message = (
            f"another Kafka cluster answers at {self.address}: its id is {answered}, this process works with {known}. "
            f"Nothing is sent to it. Point the bootstrap addresses (HARDPARTS_BROKER) at {known}"
        )
        if kept_in is not None:
            message += (
                f". If the move to the other cluster is wanted, delete {kept_in}; "
                f"the state in {kept_in.parent} is then set aside"
            )
        super().__init__(message)


class _Silence(NamedTuple):
    """An address that doesn't answer: since when, and when it may be tried again (both time.monotonic)."""

    since_s: float
    next_s: float


class ClusterMemory:
    """Give the same one to every client of a process (`cluster_memory=…`). Its clients may run in several threads.

    The first cluster id that a client sees is the process's cluster until it ends; with `kept_in`, a file, `recall` and
    `keep` make it the cluster of the processes after this one too. findings: how often a client has found it. other:
    set while the bootstrap addresses lead to another cluster and none of them to ours. contact: whether it answers.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
        *,
        kept_in: Path | None = None,
    ) -> None:
        self._clock, self._jitter, self._kept_in = clock, jitter, kept_in
        self._kept = False
        self._lock = threading.Lock()
        self._silent: dict[Address, _Silence] = {}
        self.findings = 0
        self.cluster_id: str | None = None
        self.other: OtherCluster | None = None
        self.contact = Contact()

    def recognise(self, answered: str | None, address: Address) -> None:
        """Compare the id that a broker told; raises OtherCluster.

        None: it tells none (older than Kafka 0.10.1), so it isn't of a cluster that has told one.
        """
        with self._lock:
            if answered is None and self.cluster_id is None:
                return
            if self.cluster_id is None:
                self.cluster_id = answered
            elif self.cluster_id != answered:
                raise OtherCluster(self.cluster_id, answered or "none", address, self._kept_in)
        self.found()

    def recall(self) -> None:
        """Take the id that an earlier process has kept, if there is one. Raises OSError."""
        if self._kept_in is None or self.cluster_id is not None:
            return
        with suppress(FileNotFoundError):
            self.cluster_id = self._kept_in.read_text(encoding="utf-8", errors="replace").strip() or None
            self._kept = self.cluster_id is not None

    def keep(self) -> None:
        """Write the id down, once it is known, where none is. Raises OSError."""
        if self._kept_in is None or self.cluster_id is None or self._kept:
            return
        write_whole(self._kept_in, f"{self.cluster_id}\n".encode())
        self._kept = True

    def found(self) -> None:
        """Our cluster has answered."""
        with self._lock:
            self.findings += 1
            self.other = None

    def led_astray(self, error: OtherCluster, findings: int) -> bool:
        """All bootstrap addresses were asked; another cluster answered, ours didn't. Whether that is news.

        findings: as they were before the first was asked; it is no news when another client has found ours meanwhile.
        """
        with self._lock:
            if self.findings != findings:
                return False
            news, self.other = self.other is None, error
            return news

    def wait_s(self, address: Address) -> float:
        """How long until this address may be tried; 0 is now."""
        with self._lock:
            silence = self._silent.get(address)
            return 0.0 if silence is None else max(0.0, silence.next_s - self._clock())

    def is_silent(self, address: Address) -> bool:
        """Whether the last connection failed."""
        with self._lock:
            return address in self._silent

    def may_try(self, address: Address) -> bool:
        """Whether to connect now. Of the clients that wait for a silent address one is told yes, after each pause."""
        with self._lock:
            silence, now_s = self._silent.get(address), self._clock()
            if silence is None:
                return True
            if now_s < silence.next_s:
                return False
            self._silent[address] = self._paused(silence.since_s, now_s)
            return True

    def silent(self, address: Address) -> None:
        """A connection failed."""
        with self._lock:
            now_s, silence = self._clock(), self._silent.get(address)
            self._silent[address] = self._paused(now_s if silence is None else silence.since_s, now_s)

    def answers(self, address: Address) -> None:
        """A connection is made: everybody may."""
        with self._lock:
            self._silent.pop(address, None)

    def forget_all_but(self, addresses: Iterable[Address]) -> None:
        """The cluster has told its addresses: others don't matter any more."""
        with self._lock:
            self._silent = {address: self._silent[address] for address in addresses if address in self._silent}

    def _paused(self, since_s: float, now_s: float) -> _Silence:
        pause_s = min(max((now_s - since_s) * PAUSE_OF_SILENCE, PAUSE_MIN_S), PAUSE_MAX_S)
        return _Silence(since_s, now_s + pause_s * self._jitter(1 - JITTER, 1 + JITTER))
