"""One call to its end, without input or output: what to send, what an answer means, when to try again."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pipeline.client.errors import BY_STATUS, NotAccepted, Unexpected
from pipeline.core.backoff import Backoff

ACCEPTED = 202
NOT_NOW = {429: "not_now", 500: "fault", 502: "fault", 503: "not_now", 504: "fault"}
"""Answers after which the same may be sent again, and their names."""

ATTEMPT_S = 5.0
RETRY_AFTER_MAX_S = 60.0
BETWEEN = Backoff(0.1, 5.0)
SAID_MAX = 200

Event = Mapping[str, Any]
"""`{"msg_id": …, "type": …, "data": {…}}`"""


class Call:
    """The events are made bytes once: what is tried again is the same, its msg_ids too.

    ends: when it gives up, in seconds of a clock that only goes forward, as every `now`. on_error: told the kind of
    each attempt that failed.
    """

    def __init__(
        self, topic: str, events: Event | Sequence[Event], *, ends: float, on_error: Callable[[str], object]
    ) -> None:
        """TypeError, ValueError: the events aren't JSON."""
        self.topic, self.path = topic, f"/events/{quote(topic, safe='')}"
        given = dict(events) if isinstance(events, Mapping) else [dict(event) for event in events]
        if not given:
            raise ValueError("there is no event to send")
        self.body = json.dumps(given, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        self._ends, self._on_error, self._attempts = ends, on_error, 0

    def timeout_s(self, now: float) -> float:
        """How long the next attempt may take."""
        return max(0.001, min(ATTEMPT_S, self._ends - now))

    def answered(self, status: int, headers: Mapping[str, str], content: bytes, now: float) -> float | None:
        """None: they are in custody. A number: try again after so many seconds. Raises GatewayError."""
        if status == ACCEPTED:
            return None
        problem = _problem(content)
        said = str(problem.get("error", ""))[:SAID_MAX] or f"the answer is {status}"
        if status in NOT_NOW:
            return self._again(NOT_NOW[status], said, _retry_after_s(headers), now)
        kind = BY_STATUS.get(status, Unexpected)
        self._on_error(kind.name)
        raise kind(f"{self.topic}: {said}", _explained(problem))

    def failed(self, name: str, error: Exception, now: float) -> float:
        """No answer: after how many seconds to try again. Raises NotAccepted."""
        return self._again(name, f"{type(error).__name__}: {error}"[:SAID_MAX], 0.0, now)

    def _again(self, name: str, said: str, at_least_s: float, now: float) -> float:
        self._attempts += 1
        self._on_error(name)
        delay_s = at_least_s + BETWEEN.delay_s(self._attempts, random.uniform)
        if now + delay_s >= self._ends:
            raise NotAccepted(f"{self.topic}: {said} ({name}; {self._attempts} attempts)", name)
        return delay_s


def _problem(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _explained(problem: dict[str, Any]) -> list[str]:
    """A line a failure; before it which event of a list that is."""
    events = problem.get("events")
    lines = []
    for event in events if isinstance(events, list) else ():
        if isinstance(event, dict) and isinstance(event.get("explain"), list):
            lines += [f"event {event.get('index', '?')}: {line}" for line in event["explain"]]
    return lines


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds only; a date is as good as nothing said."""
    given = headers.get("Retry-After", "")
    return min(float(given), RETRY_AFTER_MAX_S) if given.isascii() and given.isdecimal() else 0.0
