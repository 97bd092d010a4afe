"""The whole judgement in one call, once the input has ended, the lag is 0 and the workers are stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.oracle.compare import Observed, compare
from tests.oracle.fold import fold
from tests.oracle.journal import Journal
from tests.oracle.records import OUTPUTS, SOURCES
from tests.oracle.report import Report
from tests.oracle.truth import read
from tests.oracle.views import View, changelog_view, rocksdb_view


async def judge(
    bootstrap: str,
    app_id: str = "hardparts",
    *,
    disks: Mapping[str, Mapping[int, Path]] | None = None,
    journal: Journal | None = None,
    audit: bool = False,
    exactly_once: bool = False,
) -> Report:
    """Read everything, compute what must be there, compare.

    disks: name → partition → RocksDB directory; each name is one more place that must hold the whole state (the owners'
    directories after the run, those of a fresh worker with an empty disk). journal: its acknowledged records must be
    in the input. audit: also look for the records of conflicts. exactly_once: read what is committed, and blame a
    record that is there twice.
    """
    errors, audited = f"{app_id}.errors", f"{app_id}.audit"
    inputs = await read(bootstrap, SOURCES)
    topics = [*OUTPUTS, errors, *([audited] if audit else [])]
    logs = await read(bootstrap, topics, "read_committed" if exactly_once else "read_uncommitted")
    views: dict[str, View] = {"changelog": await changelog_view(bootstrap, app_id)}
    views |= {name: rocksdb_view(directories) for name, directories in (disks or {}).items()}
    observed = Observed({topic: logs[topic] for topic in OUTPUTS}, logs[errors], views, logs.get(audited))
    report = compare(fold(inputs), observed)
    if not report.figures["inputs"]:  # an empty topic would pass everything
        report.differs("nothing to judge", ", ".join(SOURCES))
    if exactly_once:
        for figure in [name for name in report.figures if name.endswith("physical duplicates")]:
            if report.figures[figure]:
                report.differs("committed twice", figure, str(report.figures[figure]))
    if journal is not None:
        report.figures["acknowledged inputs"] = journal.acked
        for missing in journal.missing_from(inputs):
            report.differs("acknowledged input that is gone", missing)
    return report
