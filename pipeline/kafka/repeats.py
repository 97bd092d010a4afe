"""aiokafka says the same line many times a second while no broker answers; once in a while is enough."""

import logging
import re
import time
from collections.abc import Iterable

LOGGERS = (
    *("", ".cluster", ".conn", ".producer.sender"),
    *(".consumer.consumer", ".consumer.fetcher", ".consumer.group_coordinator"),
)
"""Below `aiokafka`; its client has the top one."""
EVERY_S = 30.0
NUMBERS = re.compile(r"\d+")


class Repeats(logging.Filter):
    """Lets a line through at most once in EVERY_S, and then says how many were left out.

    Lines that differ only in numbers (of brokers, ports, milliseconds) count as the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it."""
        text, now = record.getMessage(), time.monotonic()
        same = NUMBERS.sub("#", text)
        said_at, left_out = self._said.get(same, (-EVERY_S, 0))
        if now - said_at < EVERY_S:
            self._said[same] = (said_at, left_out + 1)
            return False
        if len(self._said) > 1000:
            self._said.clear()
        self._said[same] = (now, 0)
        if left_out:
            record.msg, record.args = f"{text} (and {left_out} more like it in the last {now - said_at:.0f} s)", ()
        return True


def quieten(others: Iterable[str] = ()) -> None:
    """Install the filter for aiokafka's loggers and these; once a process."""
    for name in (*(f"aiokafka{name}" for name in LOGGERS), *others):
        logger = logging.getLogger(name)
        if not any(isinstance(known, Repeats) for known in logger.filters):
            logger.addFilter(Repeats())
