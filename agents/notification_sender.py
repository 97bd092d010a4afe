"""Notifications with an e-mail address are mailed, each at most once."""

from functools import partial

from agents import topics
from agents.app import app
from pipeline.core.effects import Outside
from pipeline.core.event import Event
from pipeline.runtime.agent import Agent
from pipeline.runtime.mail import Mailer
from tables.notification_sender import mail_claims

notification_sender = Agent(
    app,
    "notification-sender",
    sources=[topics.notifications],
    state=[mail_claims],
    audit_repeats=True,
)
mailer = Mailer(app.settings.smtp_url)


class NotificationRequested(Event):
    """A user should be told something."""

    user_id: int | str
    text: str
    email: str | None


@notification_sender.on("notification.requested")
def notification_requested(event: NotificationRequested) -> list[Outside]:
    """Mail it under a claim. Without an address there is nothing to send: it stays on the topic for other readers."""
    if event.email is None:
        return []
    message = mailer.compose(event.email, "You have a notification", event.text, event.msg_id, event.timestamp_ms)
    return [Outside(mail_claims.name, partial(mailer.send, message), f"mail of notification {event.msg_id}")]
