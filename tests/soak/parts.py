"""The programs that a run is made of, which exist without it: tests, chaos runs and benchmarks."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from tests.kafka.sizes import SEED, Size

PROPERTY = "soak"
"""A test that belongs to a run calls `record_property(PROPERTY, figures)`."""


class Found(NamedTuple):
    """One row of figures, and the seconds that it took; None: all that the part took."""

    figures: str
    seconds: float | None = None


class NothingFoundError(Exception):
    """The program ended well, but what it wrote isn't a whole result; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Part(ABC):
    """A program that says by its exit status whether all was right."""

    sizes: tuple[Size, ...]

    def flags_and_variables(self, *, short: bool) -> tuple[list[str], dict[str, str]]:
        """The sizes, as the program wants them."""
        chosen = {size.given_by: str(size.short if short else size.full) for size in self.sizes}
        flags = [word for name, number in chosen.items() if name.startswith("--") for word in (name, number)]
        return flags, {name: number for name, number in chosen.items() if not name.startswith("--")}

    def size(self, *, short: bool) -> str:
        """What the row says."""
        return ", ".join(f"{size.short if short else size.full:,} {size.of}" for size in self.sizes)

    @property
    def seeded(self) -> bool:
        """Whether anything is drawn."""
        return True

    @property
    def output(self) -> str:
        """The name of the file that its standard output is, if its result is that."""
        return ""

    def variables(self, seed: int) -> dict[str, str]:
        """Of the environment, beside those of the sizes."""
        return {}

    @abstractmethod
    def arguments(self, seed: int, directory: Path) -> list[str]:
        """After `python -m`, before the flags of the sizes."""

    @abstractmethod
    def found(self, directory: Path) -> Iterator[Found]:
        """Read what it wrote into `directory`; raises NothingFoundError."""


@dataclass(frozen=True, slots=True)
class FileOfTests(Part):
    """Tests of one file."""

    path: str
    chosen: str = ""
    draws: bool = True

    @property
    def seeded(self) -> bool:
        """Whether they have a seed."""
        return self.draws

    def variables(self, seed: int) -> dict[str, str]:
        """The seed."""
        return {SEED: str(seed)}

    def arguments(self, seed: int, directory: Path) -> list[str]:
        """One after the other, and what they print is shown."""
        only = ["-k", self.chosen] if self.chosen else []
        report = [f"--junit-xml={directory / 'junit.xml'}", "-o", "junit_family=xunit1"]  # the later family warns
        return ["pytest", "-s", self.path, *only, *report]

    def found(self, directory: Path) -> Iterator[Found]:
        """The figures that each test recorded."""
        for case in ET.parse(directory / "junit.xml").iter("testcase"):
            name = case.get("name")
            if (skipped := case.find("skipped")) is not None:
                raise NothingFoundError(f"{name} was skipped: {skipped.get('message')}")
            figures = [one.get("value") for one in case.iter("property") if one.get("name") == PROPERTY]
            if len(figures) != 1 or not figures[0]:
                raise NothingFoundError(f"{name} recorded no figures")
            yield Found(figures[0], float(case.get("time", "0")))


@dataclass(frozen=True, slots=True)
class Chaos(Part):
    """One chaos run."""

    guarantee: str

    def arguments(self, seed: int, directory: Path) -> list[str]:
        """With the report in the directory."""
        return ["tests.chaos", "--guarantee", self.guarantee, "--seed", str(seed), "--report", str(directory)]

    def found(self, directory: Path) -> Iterator[Found]:
        """From the report."""
        report = json.loads((directory / "report.json").read_text())
        if not report["ok"] or not report["oracle"]:
            raise NothingFoundError("the report says that it wasn't right")
        yield Found(f"{self.guarantee}: {'; '.join(_of_chaos(report))}", report["seconds"])


def _of_chaos(report: Mapping[str, Any]) -> Iterator[str]:
    figures: dict[str, int] = report["oracle"]["figures"]
    brokers = sum(fault["name"].startswith("broker") for fault in report["faults"])
    yield f"{len(report['faults'])} faults, SIGKILLs of workers {report['kills'] - brokers}, of brokers {brokers}"
    if report["points"]:
        yield f"{len(report['points'])} named points killed, each at least {min(report['points'].values())} x"
    views = [number for name, number in figures.items() if name.endswith(": rows")]
    yield f"nothing differs in {figures['inputs']:,} inputs and {len(views) + 1} views of {max(views):,} rows"
    outputs = sum(number for name, number in figures.items() if name.endswith(": outputs"))
    twice = sum(number for name, number in figures.items() if name.endswith(": physical duplicates"))
    yield f"{outputs:,} outputs, {twice:,} records there twice"
    yield f"{figures['mails']:,} mails, {figures['mails in doubt']:,} in doubt"
    yield f"lag 0 after {report['seconds to lag 0']} s"


@dataclass(frozen=True, slots=True)
class GatewayLoad(Part):
    """The benchmark of the gateway."""

    @property
    def seeded(self) -> bool:
        """Nothing is drawn."""
        return False

    @property
    def output(self) -> str:
        """What it prints is its result; what it says meanwhile comes on standard error."""
        return "gateway.json"

    def arguments(self, seed: int, directory: Path) -> list[str]:
        """As JSON."""
        return ["tests.bench", "gateway", "--json"]

    def found(self, directory: Path) -> Iterator[Found]:
        """It fails by itself when something is lost or out of order."""
        result = json.loads((directory / self.output).read_text())
        if result["lost"] or result["disordered"] or not result["accepted"]:
            raise NothingFoundError(f"lost {result['lost']}, out of order {result['disordered']}")
        p99 = ", ".join(f"{one['name']} {one['p99_ms']:,.1f} ms" for one in result["latencies"])
        yield Found(
            f"{result['accepted']:,} accepted, 0 lost, {result['repeated']:,} repeated, 0 users out of order; "
            f"{result['waiting']:,} in custody when Kafka was back, none {result['drained_s']:.1f} s later; p99 {p99}"
        )
