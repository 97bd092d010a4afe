"""The stock Faust idiom: two tables on RocksDB, one event at a time, `await topic.send`. No contract, in its favour."""

from __future__ import annotations

from typing import Any

import faust

from .settings import PeerSettings, derived_msg_id

settings = PeerSettings.from_environment()
app = faust.App(
    settings.app_id,
    broker=f"kafka://{settings.bootstrap}",
    store="rocksdb://",
    datadir=str(settings.data_directory),
    topic_partitions=settings.partitions,
    topic_replication_factor=1,
    table_standby_replicas=0,
    web_enabled=False,
)
source = app.topic(settings.input_topic, value_serializer="json", key_serializer="raw")
counted = app.topic(settings.output_topic, value_serializer="json", key_serializer="raw")
seen = app.Table("seen", default=bool, partitions=settings.partitions, options={"driver": "rocksdict"})
totals = app.Table("totals", default=int, partitions=settings.partitions, options={"driver": "rocksdict"})


@app.agent(source)
async def count_comments(stream: Any) -> None:
    """Count each comment once per user."""
    async for key, event in stream.items():
        msg_id, user_id = event["msg_id"], event["data"]["user_id"]
        if seen[msg_id]:
            continue
        seen[msg_id] = True
        totals[user_id] += 1
        output = {
            "msg_id": derived_msg_id(msg_id),
            "type": "comment.counted",
            "data": {"user_id": user_id, "count": totals[user_id]},
        }
        await counted.send(key=key, value=output)


@app.on_rebalance_complete.connect
async def recovered(*_: Any, **__: Any) -> None:
    """Say that the tables are whole."""
    print("recovered", flush=True)


if __name__ == "__main__":
    faust.Worker(app, loglevel="WARNING").execute_from_commandline()
