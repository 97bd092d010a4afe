"""One alert when a partition blocks, one when it goes on: to the log and, if set, to a webhook as JSON (E3)."""

import asyncio
import contextlib
import logging
import math
import time
from typing import Any

import aiohttp

from pipeline.closing import ended
from pipeline.kafka.memory import OtherCluster

log = logging.getLogger("hardparts.alerts")
TIMEOUT_S = 5.0
WAITING_MAX = 1000
ATTEMPTS = 3
PAUSE_S = 0.5
EVENT_OPEN_S = 600.0
"""How long the alert about an event stays open: there is no condition whose end could close it."""
SEEN_ANEW = ("topics/", "partitions/", "open-transaction/", "broker", "takeover", "definitions")
"""Each process looks for these itself: the next one opens them again if they still hold."""


class Alerts:
    """Sends alerts, one after another; a webhook that doesn't answer costs log lines, never a record.

    A post whose answer is lost is repeated, so a webhook may see the same one twice. by: the instance that tells, since
    several may tell the same name.
    """

    def __init__(self, webhook: str = "", by: str = "") -> None:
        self._webhook, self._by = webhook, {"by": by} if by else {}
        self._waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(WAITING_MAX)
        self._sending: asyncio.Task[None] | None = None
        self.open: dict[str, dict[str, Any]] = {}
        self._events: dict[str, float] = {}

    def opened(self, name: str, **about: Any) -> None:
        """The alert `name` is open from now; a second call while it is open does nothing."""
        if name in self.open:
            return
        self.open[name] = about
        log.error("ALERT opened %s: %s", name, _line(about))
        self._send({"alert": name, "state": "open", **about})

    def closed(self, name: str, **about: Any) -> None:
        """The alert `name` is over; without an open one this does nothing."""
        if self.open.pop(name, None) is None:
            return
        log.warning("ALERT closed %s: %s", name, _line(about))
        self._send({"alert": name, "state": "closed", **about})

    def closed_anew(self, name: str) -> None:
        """Tell the webhook that `name` is over, although it wasn't opened here: a process that has ended may have left
        it open.
        """
        self._send({"alert": name, "state": "closed"})

    def happened(self, name: str, **about: Any) -> None:
        """The alert `name` about an event: `close_events` closes it EVENT_OPEN_S after it has happened last."""
        self.opened(name, **about)
        self._events[name] = time.monotonic() + EVENT_OPEN_S

    def close_events(self, now: float) -> None:
        """Close those whose time (time.monotonic) has come."""
        for name in [name for name, until in self._events.items() if until <= now]:
            del self._events[name]
            self.closed(name)

    def other_cluster(self, error: OtherCluster | None) -> None:
        """The alert `cluster` is open while another cluster answers in place of ours."""
        if error is None:
            self.closed("cluster")
        else:
            self.opened(
                "cluster", known=error.known, answered=error.answered, address=error.address,
                remedy="make HARDPARTS_BROKER lead to the known cluster",
            )  # fmt: skip

    def _send(self, body: dict[str, Any]) -> None:
        if not self._webhook:
            return
        try:
            self._waiting.put_nowait({**body, **self._by})
        except asyncio.QueueFull:
            log.warning("%d alerts wait for the webhook: it is not told that %s is %s", WAITING_MAX, *_what(body))
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send_all())

    async def _send_all(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
            while True:
                body = await self._waiting.get()
                for attempt in range(1, ATTEMPTS + 1):
                    if await self._took(session, body):
                        break
                    if attempt < ATTEMPTS:
                        await asyncio.sleep(PAUSE_S * attempt)
                self._waiting.task_done()

    async def _took(self, session: aiohttp.ClientSession, body: dict[str, Any]) -> bool:
        try:
            async with session.post(self._webhook, json=body) as answer:
                answer.raise_for_status()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next alerts still have to be sent
            log.warning("alert webhook didn't take that %s is %s: %s", *_what(body), type(error).__name__)
            return False
        return True

    async def drain(self) -> None:
        """The process ends. Alerts about events are closed, since the next process doesn't know of them, and those that
        it opens by itself; then wait for those on their way, at most their time limit. What isn't sent by then is
        dropped.
        """
        self.close_events(math.inf)
        for name in [name for name in self.open if name.startswith(SEEN_ANEW)]:
            self.closed(name)
        if self._sending is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._waiting.join(), TIMEOUT_S)
        sending, self._sending = self._sending, None
        await ended(sending)


def _what(body: dict[str, Any]) -> tuple[str, str]:
    return body["alert"], body["state"]


def _line(about: dict[str, Any]) -> str:
    return " ".join(f"{name}={value!r}" for name, value in about.items())
