"""Topics that are ours: errors, audit, changelogs."""

import faust

from pipeline.core.topic import Topic
from pipeline.runtime.settings import Settings

WEEK_MS = 7 * 24 * 3600 * 1000
MONTH_MS = 30 * 24 * 3600 * 1000
BY_THE_BROKER = ("message.timestamp.type", "LogAppendTime")
"""The broker stamps the records: since Kafka 4 it refuses those of a clock that is an hour ahead."""


class SourceTopics(faust.Topic):
    """Faust's topic with a name to show when it stands for several: `faust agents` raises without one."""

    def get_topic_name(self) -> str:
        """The names, joined."""
        return ",".join(self.topics)


def own_topics(settings: Settings) -> list[Topic]:
    """The error and audit topics of the application."""
    owner, config = settings.app_id, (BY_THE_BROKER,)
    return [
        Topic(settings.topic(name), key=None, owner=owner, retention_ms=MONTH_MS, config=config)
        for name in ("errors", "audit")
    ]


def changelog_topic(name: str, partitions: int | None = None) -> Topic:
    """The changelog of an agent: compacted; tombstones stay a week, so that a copy offline for less misses none.

    partitions: as many as the agent's sources have; None for the setting's.
    """
    config = (("delete.retention.ms", str(WEEK_MS)), BY_THE_BROKER)
    return Topic(name, key=None, owner="hardparts", partitions=partitions, compacted=True, config=config)
