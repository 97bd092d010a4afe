"""State of the `notification-sender` agent."""

from pipeline.core.views import Claims

mail_claims = Claims("mail-claims")
"""Per notification: claimed, done, or in doubt."""
