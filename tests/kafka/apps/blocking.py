"""One agent that counts comments, and waits for a dependency, a file, whenever the comment says `blocks`.

TEST_AWAY: path of a file; while it exists, the dependency is away.
"""

import os
from pathlib import Path

from agents import topics
from pipeline.core.effects import Publish, publish
from pipeline.core.errors import Blocking
from pipeline.core.event import Event
from pipeline.core.state import State
from pipeline.core.topic import Catalogue
from pipeline.core.views import MsgIdSet
from pipeline.runtime.agent import Agent
from pipeline.runtime.app import App

app = App(
    catalogue=Catalogue.of([topics.user_events, topics.comment_counts]),
    contracts=Path(__file__).parents[3] / "agents" / "contracts",
    modules=[],
)
comments = MsgIdSet("comments")
blocking = Agent(
    app, "blocking", sources=[topics.user_events], outputs=[topics.comment_counts], state=[comments], unknown="ignore"
)
AWAY = Path(os.environ["TEST_AWAY"])


class CommentCreated(Event):
    """A user wrote a comment."""

    user_id: int
    msg: str


@blocking.on("comment.created")
def comment_created(event: CommentCreated, state: State) -> list[Publish]:
    """Count it, once the dependency is there."""
    if event.msg == "blocks" and AWAY.exists():
        raise Blocking(f"{AWAY.name} exists", "file")
    total = comments.of(state).add(event.msg_id)
    return [publish(topics.comment_counts, "comment.counted", user_id=event.user_id, count=total)]
