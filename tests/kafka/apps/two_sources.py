"""The version whose agent reads the team events as well."""

from agents import topics
from tests.kafka.apps.sources import version

app = version([topics.user_events, topics.team_events])
