"""One output topic against what is expected of it: nothing missing or more, each record right, each key in order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from tests.oracle.chain import Chain
from tests.oracle.fold import REFUSAL, Output, canonical_body
from tests.oracle.records import Log, Record, partition_of, place
from tests.oracle.report import Report


class _Read(NamedTuple):
    msg_id: str
    body: bytes
    text: str


class OutputJudge:
    """Goes through the log of one output topic, record by record, and notes in `report` what differs.

    Physical duplicates (same msg_id, partition, key and value) are right and are counted.
    """

    def __init__(self, report: Report, topic: str, expected: Mapping[str, Output]) -> None:
        self.chain = Chain()
        self._report = report
        self._topic = topic
        self._expected = expected
        self._first: dict[str, Record] = {}
        self._newest: dict[tuple[bytes, str, int], int] = {}

    def judge(self, log: Log) -> None:
        """Judge the whole log, every partition of the topic."""
        for records in log.values():
            for record in records:
                try:
                    read = _read(record)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    self._report.differs("unreadable output", place(record), f"{error!r} in {record.value!r:.200}")
                    continue
                if self._is_first(record, read.msg_id):
                    self._judge_first(record, read, len(log))
        for msg_id in self._expected.keys() - self._first.keys():
            output = self._expected[msg_id]
            self._report.differs("missing output", f"{self._topic} {msg_id}", f"key {output.key!r}, of {output.source}")
        self._report.figures[f"{self._topic}: outputs"] = len(self._first)

    def _is_first(self, record: Record, msg_id: str) -> bool:
        first = self._first.get(msg_id)
        if first is None:
            self._first[msg_id] = record
            return True
        self._report.figures[f"{self._topic}: physical duplicates"] += 1
        if (first.partition, first.key, first.value) != (record.partition, record.key, record.value):
            self._report.differs("duplicate that differs", place(record), f"from {place(first)}")
        return False

    def _judge_first(self, record: Record, read: _Read, partitions: int) -> None:
        output = self._expected.get(read.msg_id)
        where = place(record)
        if output is None:
            self._report.differs("output without an input", where, f"key {record.key!r}, {record.value!r:.200}")
            return
        if record.key != output.key:
            self._report.differs("output with another key", where, f"{record.key!r}, not {output.key!r}")
        elif record.partition != partition_of(output.key, partitions):
            self._report.differs("output in another partition", where, f"key {output.key!r}")
        if read.body != output.body or (REFUSAL in read.text) != output.refusal:
            self._report.differs("output with another value", where, f"{record.value!r}, not {output.body!r}")
        # Order is defined among the outputs that one key gets from one source partition.
        lane = (output.key, output.source.topic, output.source.partition)
        newest = self._newest.get(lane, -1)
        if newest > output.source.offset:
            self._report.differs("output out of order", where, f"key {output.key!r}, of {output.source}")
        self._newest[lane] = max(newest, output.source.offset)
        self.chain.add(record.key or b"", read.msg_id, read.body)


def _read(record: Record) -> _Read:
    """The judged parts of an output; raises ValueError, KeyError, TypeError or AttributeError."""
    event = json.loads((record.value or b"").decode())
    data = event["data"]
    return _Read(
        str(event["msg_id"]), canonical_body(event["type"], data, event.get("meta")), str(data.get("text", ""))
    )
