"""Names of the topics, as documented."""

from typing import NamedTuple

INPUTS = ("user-events", "team-events")
OUTPUTS = ("comment-counts", "messages", "notifications")


class Names(NamedTuple):
    """Topics whose names begin with the application's id, which is the consumer group too."""

    app_id: str

    @property
    def errors(self) -> str:
        """Rejected records."""
        return f"{self.app_id}.errors"

    @property
    def audit(self) -> str:
        """Conflicts."""
        return f"{self.app_id}.audit"

    @property
    def changelog(self) -> str:
        """The state of the agent `user-events`."""
        return f"{self.app_id}-user-events-changelog"
