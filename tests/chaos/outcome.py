"""What a run found, as data: the faults as they happened, the samples, the oracle's report, and the verdict."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.runtime.crashpoints import POINTS
from tests.chaos.plan import Fault, Options
from tests.chaos.watch import Sample
from tests.oracle.report import Report


@dataclass(frozen=True, slots=True)
class Fired:
    """A fault that happened: at_s after the start, with the standing of that moment; said: what it came to."""

    fault: Fault
    at_s: float
    took_s: float
    fed: int
    standing: Sample
    said: str


@dataclass
class Outcome:
    """failure: why the run ended early, or what did not hold; lag_zero_s: from the input's end to lag 0."""

    options: Options
    plan: list[Fault]
    fired: list[Fired] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    report: Report | None = None
    failure: str = ""
    lag_zero_s: float | None = None
    took_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Every fault fired, and the oracle finds nothing wrong."""
        return not self.failure and len(self.fired) == len(self.plan) and self.report is not None and self.report.ok

    @property
    def kills(self) -> int:
        """SIGKILLs of workers and brokers that fired."""
        return sum(one.fault.kind in ("crash", "kill", "wipe", "broker") for one in self.fired)

    @property
    def bound(self) -> str:
        """How much a green run says."""
        if not self.ok or not self.kills:
            return "A red run bounds nothing."
        return (
            f"No failure in {self.kills} kills bounds the rate of failures at about 3/{self.kills} = "
            f"{3 / self.kills:.1%} a kill, with 95 % confidence. It doesn't show that there are none."
        )

    def points(self) -> dict[str, int]:
        """How often each named point killed."""
        drawn = {fault.point for fault in self.plan if fault.kind == "crash"}
        counted = {point: 0 for point in POINTS if point in drawn}
        for one in self.fired:
            if one.fault.kind == "crash":
                counted[one.fault.point] += 1
        return counted

    def as_json(self) -> dict[str, Any]:
        """Everything, for `report.json`."""
        report = self.report
        return {
            "ok": self.ok,
            "failure": self.failure,
            "command": self.options.command,
            "options": asdict(self.options),
            "bound": self.bound,
            "kills": self.kills,
            "points": self.points(),
            "seconds": round(self.took_s, 1),
            "seconds to lag 0": self.lag_zero_s,
            "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
            "plan": [str(fault) for fault in self.plan],
            "faults": [
                {
                    "number": one.fault.number,
                    "name": one.fault.name,
                    "passes": one.fault.passes or None,
                    "at_s": round(one.at_s, 2),
                    "took_s": round(one.took_s, 2),
                    "written": one.fed,
                    "committed": one.standing.done,
                    "lag": one.standing.lag,
                    "said": one.said,
                }
                for one in self.fired
            ],
            "oracle": None
            if report is None
            else {
                "ok": report.ok,
                "figures": dict(report.figures),
                "different": dict(report.counts),
                "first differences": [str(difference) for difference in report.differences],
            },
            "samples": [[round(one.at_s, 2), one.written, one.done] for one in self.samples],
        }
