"""The catalogue: every topic that the agents read or write, with its key and its owner."""

from pipeline.core.topic import Catalogue, Topic

user_events = Topic("user-events", key="user_id", owner="upstream services")
team_events = Topic("team-events", key="user_id", owner="teams service")
comment_counts = Topic("comment-counts", key="user_id", owner="user-events agent")
messages = Topic("messages", key="user_id", owner="user-events agent")
notifications = Topic("notifications", key="user_id", owner="user-events agent")

catalogue = Catalogue.of([user_events, team_events, comment_counts, messages, notifications])
