"""aiokafka says the same line many times a second while no broker answers; once in a while is enough."""

import logging
import time

LOGGERS = ("", ".cluster", ".conn", ".consumer.fetcher", ".consumer.group_coordinator", ".producer.sender")
"""Below `aiokafka`; its client has the top one."""
EVERY_S = 10.0


class Repeats(logging.Filter):
    """Lets the same text of a logger through at most once in EVERY_S, and then says how many were left out."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it."""
        text, now = record.getMessage(), time.monotonic()
        said_at, left_out = self._said.get(text, (-EVERY_S, 0))
        if now - said_at < EVERY_S:
            self._said[text] = (said_at, left_out + 1)
            return False
        if len(self._said) > 1000:
            self._said.clear()
        self._said[text] = (now, 0)
        if left_out:
            record.msg, record.args = f"{text} ({left_out} times more)", ()
        return True


def quieten() -> None:
    """Install the filter; once a process."""
    for name in LOGGERS:
        logger = logging.getLogger(f"aiokafka{name}")
        if not any(isinstance(known, Repeats) for known in logger.filters):
            logger.addFilter(Repeats())
