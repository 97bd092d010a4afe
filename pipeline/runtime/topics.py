"""Topics that are ours: errors, audit, changelogs."""

import faust

from pipeline.core.topic import Topic
from pipeline.runtime.settings import Settings

WEEK_MS = 7 * 24 * 3600 * 1000


class SourceTopics(faust.Topic):
    """Faust's topic with a name to show when it stands for several: `faust agents` raises without one."""

    def get_topic_name(self) -> str:
        """The names, joined."""
        return ",".join(self.topics)


def own_topics(settings: Settings) -> list[Topic]:
    """The error and audit topics of the application."""
    return [
        Topic(settings.topic("errors"), key=None, owner=settings.app_id, retention_ms=30 * 24 * 3600 * 1000),
        Topic(settings.topic("audit"), key=None, owner=settings.app_id, retention_ms=30 * 24 * 3600 * 1000),
    ]


def changelog_topic(name: str, partitions: int | None = None) -> Topic:
    """The changelog of an agent: compacted; tombstones stay a week, so that a copy offline for less misses none.

    partitions: as many as the agent's sources have; None for the setting's.
    """
    config = (("delete.retention.ms", str(WEEK_MS)),)
    return Topic(name, key=None, owner="hardparts", partitions=partitions, compacted=True, config=config)
