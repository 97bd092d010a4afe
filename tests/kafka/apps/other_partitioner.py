"""A small application whose sources declare what TEST_PARTITIONER names: one agent counts, one only looks on."""

import os
from pathlib import Path
from typing import cast

from agents import topics
from pipeline.core.effects import Publish, publish
from pipeline.core.event import Event
from pipeline.core.routing import PartitionerName
from pipeline.core.state import State
from pipeline.core.topic import Catalogue, Topic
from pipeline.core.views import MsgIdSet
from pipeline.runtime.agent import Agent
from pipeline.runtime.app import App

user_events = Topic("user-events", partitioner=cast(PartitionerName, os.environ.get("TEST_PARTITIONER", "murmur2")))
team_events = Topic("team-events", partitioner="any")
app = App(
    catalogue=Catalogue.of([user_events, team_events, topics.comment_counts]),
    contracts=Path(__file__).parents[3] / "agents" / "contracts",
    modules=[],
)
comments = MsgIdSet("comments")
counting = Agent(
    app, "counting", sources=[user_events], outputs=[topics.comment_counts], state=[comments], unknown="ignore"
)


looking = Agent(app, "looking", sources=[team_events])


@looking.on("team.joined")
def team_joined(event: Event) -> list[Publish]:
    """Nothing: only that it was read is remembered."""
    return []


class CommentCreated(Event):
    """A user wrote a comment."""

    user_id: int | str


@counting.on("comment.created")
def comment_created(event: CommentCreated, state: State) -> list[Publish]:
    """Count it."""
    total = comments.of(state).add(event.msg_id)
    return [publish(topics.comment_counts, "comment.counted", user_id=event.user_id, count=total)]
