"""State of the `user-events` agent."""

from pipeline.core.views import MsgIdSet, Relation

comments = MsgIdSet("comments")
"""Per user: the comments' msg_ids, and how many there are."""

follows = Relation("follows")
"""Whom each user follows."""
