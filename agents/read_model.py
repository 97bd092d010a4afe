"""Counts and delivered messages as SQL rows: drop the tables and replay the topics to have them again."""

from agents import topics
from agents.app import app
from pipeline.core.effects import Upsert
from pipeline.core.event import Event
from pipeline.runtime.agent import Agent
from tables.read_model import comment_counts, messages

read_model = Agent(app, "read-model", sources=[topics.comment_counts, topics.messages])


class CommentCounted(Event):
    """How many comments a user has."""

    user_id: int | str


class MessageAccepted(Event):
    """A message to somebody whom its sender follows."""

    user_id: int | str
    to: int | str
    msg: str


@read_model.on("comment.counted")
def comment_counted(event: CommentCounted) -> list[Upsert]:
    """The largest count stays, so that a replay from the start never shows less."""
    return [Upsert(comment_counts.name, {"user_id": event.key, "count": event.data["count"]}, greatest=("count",))]


@read_model.on("message.accepted")
def message_accepted(event: MessageAccepted) -> list[Upsert]:
    """One row a message; its msg_id is the key, so a repeat changes nothing."""
    row = {"msg_id": event.msg_id, "user_id": event.key, "to_user_id": str(event.to).lower(), "msg": event.msg}
    return [Upsert(messages.name, row)]
