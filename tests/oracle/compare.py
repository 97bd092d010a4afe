"""Expected against observed: outputs, error records, state in every place it is held, and the sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from tests.oracle.compare_errors import judge_errors, source_of
from tests.oracle.compare_outputs import OutputJudge
from tests.oracle.fold import Expected
from tests.oracle.records import COMMENT_COUNTS, MESSAGES, Log, Place
from tests.oracle.report import Report
from tests.oracle.views import View

ONE_SOURCE = (COMMENT_COUNTS, MESSAGES)
"""Topics where the outputs of one key have one source partition, hence one order, hence one hash chain."""
MARKS = b"_marks\x00"


@dataclass(frozen=True)
class Observed:
    """What the run left.

    outputs: topic → its log. errors: the error topic. views: name → state as that place holds it; one is called
    `changelog`. audit: the audit topic, when conflicts are to be looked for in it.
    """

    outputs: Mapping[str, Log]
    errors: Log
    views: Mapping[str, View] = field(default_factory=dict)
    audit: Log | None = None


def compare(expected: Expected, observed: Observed) -> Report:
    """Everything that differs; `report.ok` when nothing does."""
    report = Report()
    for topic, outputs in expected.outputs.items():
        judge = OutputJudge(report, topic, outputs)
        judge.judge(observed.outputs[topic])
        if topic in ONE_SOURCE:
            for key in judge.chain.differing(expected.chain(topic)):
                report.differs("hash chain", f"{topic} key {key!r}")
    failed = judge_errors(report, expected, observed.errors)
    for name, view in observed.views.items():
        _view(report, name, expected, view)
    _views_agree(report, observed.views)
    _conservation(report, expected, failed, observed.views.get("changelog"))
    if observed.audit is not None:
        _conflicts(report, expected, observed.audit)
    return report


def _view(report: Report, name: str, expected: Expected, view: View) -> None:
    for partition in sorted(expected.rows.keys() | view.keys()):
        wanted, found = expected.rows.get(partition, {}), view.get(partition, {})
        report.figures[f"{name}: rows"] += len(found)
        for key in wanted.keys() - found.keys():
            report.differs("missing row", f"{name}/{partition} {key!r}")
        for key in found.keys() - wanted.keys():
            report.differs("unexpected row", f"{name}/{partition} {key!r}", repr(found[key]))
        for key in wanted.keys() & found.keys():
            value = wanted[key].value
            if value is not None and found[key] != value:
                report.differs(
                    "row with another value", f"{name}/{partition} {key!r}", f"{found[key]!r}, not {value!r}"
                )


def _views_agree(report: Report, views: Mapping[str, View]) -> None:
    """Byte for byte, marks and all: what one place holds, every place holds."""
    for (one, left), (other, right) in pairwise(views.items()):
        for partition in sorted(left.keys() | right.keys()):
            a, b = left.get(partition, {}), right.get(partition, {})
            for key in a.keys() | b.keys():
                if a.get(key) != b.get(key):
                    where = f"{one} and {other}/{partition} {key!r}"
                    report.differs("places that disagree", where, f"{a.get(key)!r}, {b.get(key)!r}")


def _conservation(report: Report, expected: Expected, errors: set[Place], changelog: View | None) -> None:
    """inputs = applied + duplicates + errors for each partition, with applied and errors as observed."""
    for partition, tally in expected.tallies.items():
        report.figures["inputs"] += tally.inputs
        report.figures["duplicates in the input"] += tally.duplicates
        if changelog is None:
            continue
        applied = sum(key.startswith(MARKS) for key in changelog.get(partition, {}))
        failed = sum(source.partition == partition for source in errors)
        report.figures["applied"] += applied
        if applied + tally.duplicates + failed != tally.inputs:
            detail = f"{tally.inputs} inputs, {applied} applied, {tally.duplicates} duplicates, {failed} errors"
            report.differs("sums", f"partition {partition}", detail)


def _conflicts(report: Report, expected: Expected, audit: Log) -> None:
    audited = {source_of(record.headers) for records in audit.values() for record in records}
    for source in expected.conflicts:
        if source not in audited:
            report.differs("conflict without an audit record", source)
