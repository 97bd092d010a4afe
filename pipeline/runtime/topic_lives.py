"""Which life of a topic a commit belongs to: one of that name may have been deleted and made again.

Kafka deletes the offsets of a deleted topic, but takes new ones as soon as there is a topic of that name again: after a
late commit its first records would stay unread. So each commit carries the topic's id as its metadata.
"""

from collections.abc import Mapping

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from pipeline.core.start import Committed, commit_metadata
from pipeline.kafka.topic_ids import TopicSeen


class TopicLives:
    """The topics that are read here, from one takeover to the next."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}
        """topic → id of the one that is read, as the takeover found it."""
        self._before: dict[str, str] = {}
        self._old: dict[TopicPartition, int] = {}

    def commit(self, tp: TopicPartition, offset: int) -> OffsetAndMetadata:
        """The commit of an offset in the topic that is read."""
        return OffsetAndMetadata(offset, commit_metadata(self.ids.get(tp.topic, "")))

    def begin(self, seen: Mapping[str, TopicSeen | None]) -> None:
        """A takeover reads these topics; again before `end`, it changes nothing."""
        for name, found in seen.items():
            if found is not None:
                self.ids.setdefault(name, found.topic_id)

    def end(self) -> None:
        """No unit reads a topic any more."""
        self._before |= self.ids
        self.ids.clear()

    def is_old(self, tp: TopicPartition, commit: OffsetAndMetadata, found: TopicSeen | None) -> bool:
        """Whether a commit belongs to an earlier topic than `found`.

        One of an older version, or of a person, carries no id. What this process has read before tells then, and the
        offset is remembered: it is old until another one is committed.
        """
        if found is None:
            return False
        if topic_id := Committed.of(*commit).topic_id:
            return bool(topic_id != found.topic_id)
        if self._before.get(tp.topic, found.topic_id) != found.topic_id:
            self._old[tp] = commit.offset
        return bool(self._old.get(tp) == commit.offset)
