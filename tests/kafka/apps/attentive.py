"""The product's application, which asks the topics for their limits every two seconds instead of every minute."""

from agents.app import app
from pipeline.runtime import topic_limits

__all__ = ["app"]

topic_limits.ASK_EVERY_S = 2.0
