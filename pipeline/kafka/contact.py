"""Whether the cluster still answers what the clients of a process ask it, and what it says when it doesn't.

A client that gets no answer asks again for ever, with a log line. Whoever has nothing in hand would never learn of it.
"""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from aiokafka.errors import (
    IllegalSaslStateError,
    NodeNotReadyError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from pipeline.core.failure import line_of

GIVEN_UP_S = 5.0
"""What nobody has asked again for so long, nobody waits for: a consumer that has no room fetches nothing."""
SASL_REFUSALS = (SaslAuthenticationFailed, UnsupportedSaslMechanismError, IllegalSaslStateError)
TLS_REFUSALS = (ssl.SSLError, ssl.SSLCertVerificationError)
"""These alone: others of their kind come when a broker goes away in the middle."""

Address = tuple[str, int]
"""Host and port, as configured or as the cluster advertises it."""


class Silence(NamedTuple):
    """What gets no answer from any broker. what: fetch, heartbeat, coordinator or metadata. since_s: time.monotonic of
    the first time that it was asked in vain. error: for people.
    """

    what: str
    since_s: float
    error: str


class _Waiting:
    __slots__ = ("asked_s", "error", "outstanding", "since_s")

    def __init__(self, now_s: float) -> None:
        self.since_s = self.asked_s = now_s
        self.outstanding = 0
        self.error: BaseException | None = None


class Contact:
    """Shared by the clients of a process, which may run in several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[Any, _Waiting] = {}
        self._connection: tuple[Address, BaseException] | None = None

    @contextmanager
    def asking(self, who: object, what: str) -> Iterator[Callable[[BaseException], None]]:
        """A request to one broker: answered unless an exception comes out of the block, or what it gives is called with
        the error that the answer holds. who: the client.

        While one broker answers a client, another that doesn't is no silence: its leaders move, and whether they do is
        seen by who asks where the sources end.
        """
        key, now_s = (id(who), what), self._clock()
        with self._lock:
            waiting = self._waiting.setdefault(key, _Waiting(now_s))
            waiting.asked_s = now_s
            waiting.outstanding += 1
        errors: list[BaseException] = []
        try:
            yield errors.append
        except Exception as error:
            self._ended(key, waiting, error)
            raise
        except BaseException:  # cancelled: it says nothing about the broker
            self._ended(key, waiting, waiting.error)
            raise
        else:
            self._ended(key, waiting, errors[-1] if errors else None, answered=not errors)

    def _ended(self, key: Any, waiting: _Waiting, error: BaseException | None, answered: bool = False) -> None:
        with self._lock:
            waiting.outstanding -= 1
            waiting.error = error
            if answered:
                waiting.since_s = self._clock()
            if not waiting.outstanding and error is None and self._waiting.get(key) is waiting:
                del self._waiting[key]

    def longest_silence(self) -> Silence | None:
        """What has got no answer for the longest time, of what is still asked for."""
        with self._lock:
            now_s = self._clock()
            for key, waiting in list(self._waiting.items()):
                if not waiting.outstanding and now_s - waiting.asked_s > GIVEN_UP_S:
                    del self._waiting[key]
            key, longest = min(self._waiting.items(), key=lambda item: item[1].since_s, default=(None, None))
            if longest is None or key is None:
                return None
            return Silence(key[1], longest.since_s, self._told(longest.error))

    def connection_failed(self, address: Address, error: BaseException) -> None:
        """A connection couldn't be made."""
        with self._lock:
            self._connection = address, error

    def connected(self) -> None:
        """A connection was made."""
        with self._lock:
            self._connection = None

    @property
    def refusal(self) -> str:
        """What the broker at which the last connection failed has against us; "" when it just didn't answer."""
        with self._lock:
            return self._at(*self._connection) if self._connection and is_refusal(self._connection[1]) else ""

    def _told(self, error: BaseException | None) -> str:
        if self._connection is not None and (error is None or isinstance(error, NodeNotReadyError)):
            return self._at(*self._connection)
        return "no answer yet" if error is None else described(error)

    @staticmethod
    def _at(address: Address, error: BaseException) -> str:
        return f"{address[0]}:{address[1]}: {described(error)}"


def is_refusal(error: BaseException) -> bool:
    """Whether a broker answers, but doesn't let us in: waiting doesn't mend that."""
    return isinstance(error, SASL_REFUSALS) or type(error) in TLS_REFUSALS


def described(error: BaseException) -> str:
    """The type of an error and what it says, in one line."""
    name, line = type(error).__name__, line_of(error)
    return line if line.startswith(name) else f"{name}: {line}"
