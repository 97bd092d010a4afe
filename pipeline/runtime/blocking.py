"""The head of a unit while it waits: backoff, the gauge of how long, one alert when it opens and one when it closes."""

import asyncio
import logging
import time

from pipeline.core.error_record import text
from pipeline.core.outcome import Blocked
from pipeline.runtime.context import Context

log = logging.getLogger("hardparts.unit")

BROKER = "broker"
"""The reason when step 5 or 6 fails: of a batch with many records and topics, any may be the cause."""
CLOCK = "clock"
"""As `broker`, when it refuses the time of a record: this worker's clock is wrong, or a topic takes too little."""


class Head:
    """What a unit's first unfinished record is waiting for, if anything."""

    def __init__(self, context: Context, agent: str, partition: int) -> None:
        self._context, self._agent, self._partition = context, agent, partition
        self.blocked: Blocked | None = None
        self.since_s: float | None = None
        self.first_failed_ms: int | None = None
        self.attempts = 1

    @property
    def seconds(self) -> float:
        """How long the head has been blocked; 0 when it isn't."""
        return time.monotonic() - self.since_s if self.since_s is not None else 0.0

    @property
    def anywhere(self) -> bool:
        """Blocked, and by which record isn't known: each goes alone until the batch ends, under one alert."""
        return self.blocked is not None and self.blocked.reason in (BROKER, CLOCK)

    async def wait(self, blocked: Blocked) -> None:
        """One more failed attempt: wait before the next."""
        record = blocked.record
        where = f"{record.topic}[{record.partition}]@{record.offset}"
        if self.blocked is not None and not self._goes_on(blocked):
            self.passed()
        if self.blocked is None:
            self.since_s, self.first_failed_ms = time.monotonic(), self._context.now_ms()
            self._context.alerts.opened(
                self._alert, agent=self._agent, topic=record.topic, partition=record.partition, offset=record.offset,
                reason=blocked.reason, message=blocked.message,
            )  # fmt: skip
        self.blocked = blocked
        self._context.crash.reach("while-blocked")
        delay_s = self._context.backoff.delay_s(self.attempts, self._context.jitter)
        self.attempts += 1
        log.warning(
            "%s blocks on %s: %s; attempt %d in %.1f s",
            where,
            blocked.reason,
            text(blocked.message),
            self.attempts,
            delay_s,
        )
        if blocked.stack:
            log.warning("%s", text(blocked.stack))
        self._gauge(self.seconds)
        await asyncio.sleep(delay_s)

    def passed(self) -> None:
        """The head was finished."""
        if self.blocked is not None:
            self._context.alerts.closed(self._alert, blocked_s=round(self.seconds, 1), attempts=self.attempts)
            self._end()

    def released(self) -> None:
        """The unit leaves this worker while it waits: whoever takes it over opens an alert of its own."""
        if self.blocked is not None:
            self._context.alerts.closed(self._alert, blocked_s=round(self.seconds, 1), released=True)
            self._end()

    def _end(self) -> None:
        if self.blocked is not None:
            self._context.metrics.blocked.remove(*self._labels)
        self.blocked, self.since_s, self.first_failed_ms, self.attempts = None, None, None, 1

    def refresh(self) -> None:
        """Bring the gauge up to date (called when metrics are read)."""
        if self.blocked is not None:
            self._gauge(self.seconds)

    @property
    def _alert(self) -> str:
        return f"blocked:{self._agent}:{self._partition}"

    def _goes_on(self, blocked: Blocked) -> bool:
        """Whether it is the same trouble as before."""
        before = self.blocked
        return (
            before is not None
            and (before.record.topic, before.reason) == (blocked.record.topic, blocked.reason)
            and (before.record.offset == blocked.record.offset or self.anywhere)
        )

    @property
    def _labels(self) -> tuple[str, str, str, str]:
        assert self.blocked is not None
        return self._agent, self.blocked.record.topic, str(self._partition), self.blocked.reason

    def _gauge(self, seconds: float) -> None:
        self._context.metrics.blocked.labels(*self._labels).set(seconds)
