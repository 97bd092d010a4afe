"""What becomes of a message that is refused for good: kept in the spill, logged, told."""

import logging
import time
from collections.abc import Callable, Sequence

from pipeline.producer.errors import ProducerError, Undeliverable
from pipeline.producer.lane import Lane
from pipeline.producer.message import Letter, Undelivered
from pipeline.producer.spill import Spill
from pipeline.producer.undelivered import id_of, to_row

log = logging.getLogger("hardparts.producer")

PAYLOAD_SHOWN_BYTES = 200


class Refusing:
    """Keeps them where they can be looked at, then tells `on_undelivered`."""

    def __init__(self, spill: Spill | None, on_undelivered: Callable[[Undelivered], None] | None) -> None:
        self._spill, self._on_undelivered = spill, on_undelivered

    def __call__(self, lane: Lane, messages: Sequence[Letter], error: ProducerError, attempts: int) -> None:
        """The oldest messages of a lane, which are still in it."""
        code = error.code if isinstance(error, Undeliverable) else None
        now_ms = int(time.time() * 1000)
        found = [
            Undelivered(
                id_of(lane.id, lane.head + number, message), *lane.id, message.key, message.value, message.headers,
                message.timestamp_ms, error.name, code, str(error), attempts, now_ms,
            )
            for number, message in enumerate(messages)
        ]  # fmt: skip
        if self._spill is not None:
            self._spill.keep_undelivered(to_row(*pair) for pair in zip(messages, found, strict=True))
        for one in found:
            shown = (one.value or b"")[:PAYLOAD_SHOWN_BYTES]
            log.error(
                "undeliverable: %s (code %s), %s[%s], key %r, payload %r", one.error, code, *lane.id, one.key, shown
            )
            if self._on_undelivered is not None:
                try:
                    self._on_undelivered(one)
                except Exception:
                    log.exception("on_undelivered failed for %s", one.id)
