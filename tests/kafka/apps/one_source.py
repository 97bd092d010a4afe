"""The version whose agent reads the user events."""

from agents import topics
from tests.kafka.apps.sources import version

app = version([topics.user_events])
