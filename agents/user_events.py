"""One agent for all events of a user, so that follow → message → unfollow stay in the order in which they happened."""

from agents import topics
from agents.app import app
from pipeline.core.effects import Publish, publish
from pipeline.core.event import Event
from pipeline.core.state import State
from pipeline.runtime.agent import Agent
from tables.user_events import comments, follows

user_events = Agent(
    app,
    "user-events",
    sources=[topics.user_events, topics.team_events],
    outputs=[topics.comment_counts, topics.messages, topics.notifications],
    state=[comments, follows],
)


class CommentCreated(Event):
    """A user wrote a comment."""

    user_id: int | str
    msg: str


class Followed(Event):
    """A user follows another, or no longer does."""

    user_id: int | str
    followee_id: int | str


class MessageSent(Event):
    """A user wrote to another."""

    user_id: int | str
    to: int | str
    msg: str


class TeamJoined(Event):
    """A user joined a team."""

    user_id: int | str
    team_id: int | str


@user_events.on("comment.created")
def comment_created(event: CommentCreated, state: State) -> list[Publish]:
    """Count comments as the cardinality of their msg_ids: no redo can raise it."""
    total = comments.of(state).add(event.msg_id)
    return [
        publish(topics.comment_counts, "comment.counted", output="comment-counted", user_id=event.user_id, count=total)
    ]


@user_events.on("user.followed")
def user_followed(event: Followed, state: State) -> list[Publish]:
    """Remember it, and tell the followee."""
    follows.of(state).add(event.followee_id)
    return [_notify(event.followee_id, f"user {event.user_id} follows you")]


@user_events.on("user.unfollowed")
def user_unfollowed(event: Followed, state: State) -> list[Publish]:
    """Forget it."""
    follows.of(state).remove(event.followee_id)
    return []


@user_events.on("message.sent")
def message_sent(event: MessageSent, state: State) -> list[Publish]:
    """Deliver it if the sender follows the addressee at this point of the order; else say so: a refusal is no error."""
    if follows.of(state).has(event.to):
        return [
            publish(
                topics.messages, "message.accepted", output="message-accepted",
                user_id=event.user_id, to=event.to, msg=event.msg,
            )
        ]  # fmt: skip
    return [_notify(event.user_id, f"message to {event.to} refused: not following")]


@user_events.on("team.joined")
def team_joined(event: TeamJoined) -> list[Publish]:
    """Welcome the user."""
    return [_notify(event.user_id, f"you joined team {event.team_id}")]


def _notify(user_id: int | str, text: str) -> Publish:
    return publish(
        topics.notifications, "notification.requested", output="notification-requested", user_id=user_id, text=text
    )
