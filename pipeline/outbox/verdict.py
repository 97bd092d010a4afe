"""What an error of the producer says about: this row, or its whole topic."""

from enum import Enum

from pipeline.outbox.rows import RowBroken
from pipeline.producer import BadHeaders, BadKey, BadPayload, BadTopic, Undeliverable

OF_THE_TOPIC = {"topic_authorization_failed", "invalid_timestamp"}
"""The second is the topic's or this machine's clock: not even the time of sending was taken."""


class Verdict(Enum):
    """What becomes of a row that wasn't confirmed."""

    FAILED = "the row's fault: marked as failed, later rows go on"
    WAITS = "its topic's, or nobody's: it is sent again, and the topic's later rows wait behind it"


def verdict_of(error: Exception) -> Verdict:
    """A topic that is missing or denied can be mended, and then order must not be lost; a row can't mend itself."""
    if isinstance(error, RowBroken | BadTopic | BadPayload | BadKey | BadHeaders):
        return Verdict.FAILED
    if isinstance(error, Undeliverable) and error.name not in OF_THE_TOPIC:
        return Verdict.FAILED
    return Verdict.WAITS


def reason_of(error: Exception) -> str:
    """For the row and the alert."""
    name = getattr(error, "name", type(error).__name__)
    return f"{name}: {' '.join(str(error).split())}"[:500]
