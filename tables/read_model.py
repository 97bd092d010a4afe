"""The SQL read model, projected from events; drop it and replay the topics to have it again."""

from sqlalchemy import BigInteger, Column, MetaData, String, Table, Text

metadata = MetaData()

comment_counts = Table(
    "comment_counts",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("count", BigInteger, nullable=False),
)

messages = Table(
    "messages",
    metadata,
    Column("msg_id", String(36), primary_key=True),
    Column("user_id", String(64), nullable=False, index=True),
    Column("to_user_id", String(64), nullable=False),
    Column("msg", Text, nullable=False),
)
