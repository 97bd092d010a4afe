"""Every bug in the scenario that brings it out, and every scenario without a bug: red there, green here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from aiokafka.errors import KafkaError

from tests.chaos.planted.scenarios import BATCH, BROUGHT_OUT_BY, PARTITIONS, SCENARIOS, Planted, stage_for
from tests.kafka.cluster import KafkaCluster
from tests.oracle.lag import StillLagging

LAG_ZERO_WITHIN_S = 90.0
LAG_ZERO_WITH_A_BUG_S = 20.0
"""A bug that stops the workers for good is told from one that only loses records by this bound."""
NOT_LIVE = "lag not 0"
SIDE_BY_SIDE = 2
"""They wait for session timeouts most of the time: two brokers keep two cores busy."""
TRIES = {"fence-off": 3}
"""It shows only when a late write is sent before its worker gives it up. Each try has a seed of its own."""
GUARANTEE = "at_least_once"
"""The bugs are planted into its path."""


@dataclass(frozen=True, slots=True)
class Trying:
    """One scenario with one bug, or none: the kinds of difference that the oracle named, or why it had no say."""

    scenario: str
    bug: str
    kinds: dict[str, int]
    failure: str
    took_s: float
    tries: int = 1

    @property
    def as_wanted(self) -> bool:
        """A bug must be caught by the oracle, and without one there must be nothing to catch."""
        return bool(self.kinds) == bool(self.bug) and not self.failure

    @property
    def caught_by(self) -> str:
        """The kinds, the most frequent first."""
        shown = ", ".join(f"{kind} {number}" for kind, number in sorted(self.kinds.items(), key=lambda one: -one[1]))
        shown = shown or (self.failure.splitlines()[0] if self.failure else "nothing differs")
        return shown if self.tries == 1 else f"{shown} (try {self.tries})"


def try_all(bugs: Sequence[str], seed: int, tell: Callable[[Trying], None]) -> list[Trying]:
    """Each scenario without a bug and with each of its own; on two brokers, each of which takes what is next."""
    scenarios = [name for name in SCENARIOS if any(BROUGHT_OUT_BY[bug] == name for bug in bugs)]
    trials = [(name, bug) for name in scenarios for bug in ("", *(bug for bug in bugs if BROUGHT_OUT_BY[bug] == name))]
    waiting = iter(list(enumerate(trials)))
    found: dict[int, Trying] = {}

    def on_a_broker(directory: Path) -> None:
        with KafkaCluster(1, directory / "kafka") as cluster:
            for number, (name, bug) in waiting:
                for nth in range(1, TRIES.get(bug, 1) + 1):
                    path = directory / f"{number}-{nth}"
                    path.mkdir()
                    one = asyncio.run(_try(cluster, path, name, bug, seed + nth - 1))
                    found[number] = replace(one, tries=nth)
                    if one.kinds or one.failure or not bug:
                        break
                tell(found[number])

    with (
        TemporaryDirectory(prefix="hardparts-planted-", ignore_cleanup_errors=True) as directory,
        ThreadPoolExecutor(SIDE_BY_SIDE) as threads,
    ):
        places = [Path(directory) / str(number) for number in range(min(SIDE_BY_SIDE, len(trials)))]
        tasks = [threads.submit(on_a_broker, place) for place in places]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            for _ in waiting:  # on Ctrl-C too: the trials under way end, no other one begins
                pass
            raise
    return [found[number] for number in sorted(found)]


async def _try(cluster: KafkaCluster, path: Path, scenario: str, bug: str, seed: int) -> Trying:
    began, kinds, failure = time.monotonic(), {}, ""
    trial = Planted(
        cluster, path, partitions=PARTITIONS, batch_records_max=BATCH, processing_guarantee=GUARANTEE,
    )  # fmt: skip
    try:
        async with trial:
            stage = stage_for(trial, bug, seed)
            journal = await SCENARIOS[scenario](stage)
            kinds = dict((await trial.judged(journal, LAG_ZERO_WITH_A_BUG_S if bug else LAG_ZERO_WITHIN_S)).counts)
    except StillLagging:
        kinds = {NOT_LIVE: 1}
    except (AssertionError, TimeoutError, RuntimeError, KafkaError, OSError) as error:
        failure = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    return Trying(scenario, bug, kinds, failure, time.monotonic() - began)
