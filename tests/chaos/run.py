"""One run: a cluster, workers, input, every fault of the schedule, the end, the judgement."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from aiokafka.errors import KafkaError

from tests.chaos.crew import Crew
from tests.chaos.faults import SESSION_S, Scene, do
from tests.chaos.mailing import Mailing
from tests.chaos.outcome import Fired, Outcome
from tests.chaos.paced import PacedFeed
from tests.chaos.plan import Fault, Options, schedule
from tests.chaos.show import Show
from tests.chaos.watch import Sample, Watch
from tests.kafka.cluster import KafkaCluster
from tests.kafka.trial import Trial
from tests.oracle.generator import Mix

LAG_ZERO_WITHIN_S = 120.0
RED = (AssertionError, TimeoutError, RuntimeError, KafkaError, OSError, subprocess.SubprocessError)
"""What says that the run is red; anything else is a bug of the run itself."""


def run(options: Options, logs: Path, show: Show) -> Outcome:
    """The whole run; the workers' and brokers' logs are copied into `logs`."""
    outcome = Outcome(options, schedule(options))
    show.begins(outcome)
    began = time.monotonic()
    with TemporaryDirectory(prefix="hardparts-chaos-", ignore_cleanup_errors=True) as directory:
        path = Path(directory)
        try:
            with KafkaCluster(options.brokers, path / "kafka") as cluster:
                asyncio.run(_on(cluster, path, outcome, show))
        except RED as error:
            outcome.failure = outcome.failure or _told(error)
        finally:
            for log in (*path.glob("*.log"), *path.glob("kafka/*/broker.log")):
                shutil.copy(log, logs / (log.name if log.parent == path else f"{log.parent.name}.log"))
    outcome.took_s = time.monotonic() - began
    return outcome


async def _on(cluster: KafkaCluster, path: Path, outcome: Outcome, show: Show) -> None:
    options = outcome.options
    trial = Trial(
        cluster, path, session_timeout_s=str(SESSION_S), processing_guarantee=options.guarantee,
        batch_records_max="500",
    )  # fmt: skip
    mix = Mix(events=options.events, duplicates=0.05, poison=0.005)
    async with trial, Mailing(trial) as mailing, Watch(cluster.bootstrap, trial.app_id) as watch:
        outcome.samples = watch.samples
        crew = Crew(trial)
        await crew.whole()
        async with PacedFeed(trial, options.seed, mix, len(outcome.plan)) as feed:
            scene = Scene(trial, crew, mailing, feed, watch, path / "away", lambda: None)
            for fault in outcome.plan:
                fired = await _one(scene, fault)
                outcome.fired.append(fired)
                show.fired(fired)
                feed.next_part()
            await crew.whole()
            journal = await feed.rest()
        outcome.lag_zero_s = round(await trial.caught_up(LAG_ZERO_WITHIN_S), 1)
        show.says(f"lag 0 after {outcome.lag_zero_s:.1f} s; stopping, rebuilding on an empty disk, judging")
        await crew.settled()
        outcome.report = await trial.judged(journal)
        await mailing.judge(outcome.report, options.guarantee)


async def _one(scene: Scene, fault: Fault) -> Fired:
    """Let a fault happen, and note where the stream stood when it did."""
    began = time.monotonic()
    moments: list[tuple[float, int, Sample]] = []
    scene.strikes = lambda: moments.append((scene.watch.at_s, scene.feed.journal.acked, scene.watch.last))
    try:
        said = await do(scene, fault)
    except RED as error:
        raise AssertionError(f"fault {fault.number} ({fault.name}): {_told(error)}") from error
    at_s, fed, standing = moments[0]
    events = scene.feed.mix.events
    assert max(fed, standing.done) < events, f"fault {fault.number} ({fault.name}) came after the input's end"
    return Fired(fault, at_s, time.monotonic() - began, fed, standing, said)


def _told(error: BaseException) -> str:
    notes = "\n".join(getattr(error, "__notes__", ()))
    return f"{type(error).__name__}: {error}\n{notes}".strip()
