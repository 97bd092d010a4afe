"""The faulty broker as a process, ordered about over its standard input."""

from __future__ import annotations

from pathlib import Path

from tests.goprogram import Ordered, compiled

SOURCES = Path(__file__).parent / "go"


def binary() -> Path:
    """The compiled broker; raises NoGo."""
    return compiled(SOURCES, "faulty-broker")


class Fault:
    """An order that was given: `hits` says how many requests have got the error."""

    def __init__(self, broker: FaultyBroker, number: int) -> None:
        self._broker, self._number = broker, number

    def hits(self) -> int:
        return int(self._broker.order(f"hits {self._number}"))

    def remove(self) -> None:
        self._broker.order(f"remove {self._number}")


class FaultyBroker(Ordered):
    """`with FaultyBroker() as broker`, in place of an embedded one."""

    def __init__(self) -> None:
        super().__init__(binary())

    @property
    def url(self) -> str:
        return self.said

    @property
    def bootstrap(self) -> str:
        return self.url.removeprefix("kafka://")

    def fault(self, request: str, topic: str, error: str, count: int) -> Fault:
        """The next `count` requests of this kind for `topic` ("-": any) get this error. Names are Kafka's own."""
        return Fault(self, int(self.order(f"fault {request} {topic} {error} {count}")))
