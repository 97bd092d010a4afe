"""The undelivered log: what Kafka refuses for good, kept in the spill until somebody sends it again or discards it."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from pipeline.gateway.custody import Custody
from pipeline.gateway.door import Taken
from pipeline.gateway.metrics import GatewayMetrics
from pipeline.producer import Undelivered
from pipeline.runtime.alerts import Alerts

SLICE = 100


class Replayed(NamedTuple):
    """What one call did. more: call again, with this until_ms."""

    replayed: int
    more: bool
    until_ms: int


class UndeliveredLog:
    """Lists and replays; oldest first within a topic-partition."""

    def __init__(self, custody: Custody, metrics: GatewayMetrics, alerts: Alerts) -> None:
        self._custody, self._metrics, self._alerts = custody, metrics, alerts
        self._replaying = asyncio.Lock()

    async def count(self) -> None:
        """Bring the gauge and the alert up to date: at the start, and when something has left."""
        number = 0
        async for refused in self._rows():
            if not number:
                self._alerts.opened("undelivered", id=refused.id, topic=refused.topic, error=refused.error)
            number += 1
        self._metrics.undelivered.set(number)
        if not number:
            self._alerts.closed("undelivered")

    async def listed(self, limit: int, after: str) -> list[Undelivered]:
        """The next `limit` behind id `after` ("": from the beginning)."""
        found: list[Undelivered] = []
        async for refused in self._rows():
            if refused.id > after:
                found.append(refused)
                if len(found) == limit:
                    break
        return found

    async def replay(self, until_ms: int | None, limit: int) -> Replayed:
        """Take up to `limit` of those refused before `until_ms` (None: now) into custody again, then out of the log.

        Those that were refused later than now are from before the clock went back.

        A kill in between leaves them in the log: they are sent twice, none is skipped. What is refused again gets a new
        row with its time, which a later call with the same `until_ms` leaves alone. Raises as Custody.take does.
        """
        if until_ms is None:
            until_ms = _now_ms()
        async with self._replaying:
            chosen: list[Undelivered] = []
            async for refused in self._rows():
                if refused.at_ms < until_ms or refused.at_ms > _now_ms():
                    chosen.append(refused)
                    if len(chosen) > limit:
                        break
            more, chosen = len(chosen) > limit, chosen[:limit]
            takes = (self._take(refused) for refused in chosen)
            results = await asyncio.gather(*takes, return_exceptions=True)
            failed = [result for result in results if isinstance(result, BaseException)]
            done = [refused for refused, result in zip(chosen, results, strict=True) if result is None]
            for refused in done:
                self._custody.producer.discard(refused.id)
            self._metrics.undelivered.dec(len(done))
            if not more:
                await self.count()
            if failed:
                raise failed[0]
            return Replayed(len(done), more, until_ms)

    async def discard(self, id_: str) -> bool:
        """Forget one; whether it was there."""
        async with self._replaying:
            async for refused in self._rows():
                if refused.id == id_:
                    self._custody.producer.discard(id_)
                    await self.count()
                    return True
            return False

    async def _take(self, refused: Undelivered) -> None:
        assert refused.value is not None, "the door takes no tombstones"
        await self._custody.take(refused.topic, [Taken(refused.key, refused.value)], refused.headers)

    async def _rows(self) -> AsyncIterator[Undelivered]:
        """Those that are there now, others getting their turn on the event loop in between."""
        for number, refused in enumerate(self._custody.producer.undelivered()):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            yield refused


def _now_ms() -> int:
    return int(time.time() * 1000)


def shown(refused: Undelivered) -> dict[str, Any]:
    """One as JSON; bytes that aren't UTF-8 text as `{"base64": …}`."""
    return {
        "id": refused.id,
        "topic": refused.topic,
        "partition": refused.partition,
        "key": _text(refused.key),
        "value": _text(refused.value),
        "headers": _pairs(refused.headers),
        "error": refused.error,
        "code": refused.code,
        "reason": refused.reason,
        "attempts": refused.attempts,
        "at_ms": refused.at_ms,
        "accepted_at_ms": refused.timestamp_ms,
    }


def _pairs(headers: Sequence[tuple[str, bytes]]) -> list[list[Any]]:
    return [[name, _text(text)] for name, text in headers]


def _text(data: bytes | None) -> str | dict[str, str] | None:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
