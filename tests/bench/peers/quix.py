"""Quix Streams: a StreamingDataFrame, its state in RocksDB and a changelog; a row per msg_id and a count per user."""

from __future__ import annotations

from typing import Any

from quixstreams import Application, State

from .contract import is_valid
from .settings import PeerSettings, derived_msg_id


def count_comment(event: dict[str, Any], state: State[str, Any]) -> dict[str, Any] | None:
    """The output for a comment that is new to its user's state, None for a duplicate."""
    if not is_valid(event):
        raise ValueError("not a comment.created")
    msg_id, user_id = event["msg_id"], event["data"]["user_id"]
    if state.get(msg_id) is not None:
        return None
    state.set(msg_id, 1)
    count = state.get("count", 0) + 1
    state.set("count", count)
    return {"msg_id": derived_msg_id(msg_id), "type": "comment.counted", "data": {"user_id": user_id, "count": count}}


def main() -> None:
    """Run until a signal comes."""
    settings = PeerSettings.from_environment()
    app = Application(
        broker_address=settings.bootstrap,
        consumer_group=settings.app_id,
        auto_offset_reset="earliest",
        state_dir=settings.data_directory,
        loglevel="WARNING",
    )
    source = app.topic(settings.input_topic, key_deserializer="bytes", value_deserializer="json")
    counted = app.topic(settings.output_topic, key_serializer="bytes", value_serializer="json")
    frame = app.dataframe(source)
    frame = frame.apply(count_comment, stateful=True)
    frame = frame[frame.apply(lambda output: output is not None)]
    frame.to_topic(counted)
    app.run()


if __name__ == "__main__":
    main()
