"""What is done to workers. Each fault returns in words what happened; AssertionError means that it didn't happen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.brokers import broker_is_killed
from tests.chaos.crew import Crew
from tests.chaos.mailing import Mailing
from tests.chaos.paced import PacedFeed
from tests.chaos.plan import AT_SEND, OF_MAILS, Fault
from tests.chaos.watch import Watch
from tests.kafka.trial import Trial
from tests.oracle.process import Worker

SESSION_S = 3.0
PAST_THE_SESSION = 2.0


@dataclass
class Scene:
    """What a fault acts on. `away`: the file that is a dependency. `strikes`: call it the moment the fault fires."""

    trial: Trial
    crew: Crew
    mailing: Mailing
    feed: PacedFeed
    watch: Watch
    away: Path
    strikes: Callable[[], None]


async def do(scene: Scene, fault: Fault) -> str:
    """Let it happen under load, in mid-stream; what happened."""
    await scene.crew.whole() if fault.kind not in ("crash", "freeze-at") else None
    await scene.feed.more(int(fault.gap * scene.feed.part_size))
    said = await ACTS[fault.kind](scene, fault)
    if fault.settles:
        await scene.crew.settled()
    return said


async def _crash(scene: Scene, fault: Fault) -> str:
    """A worker starts armed, and dies at its point."""
    if fault.point in OF_MAILS:
        return await _crash_of_mails(scene, fault)
    crew, blocks = scene.crew, fault.point == "while-blocked"
    if blocks:
        scene.away.touch()
    armed = await crew.begin(
        {"CHAOS_AWAY": str(scene.away)} if blocks else None,
        crash_at=f"{fault.point}:{fault.passes}",
        **_small_batches(fault),
    )
    struck = asyncio.create_task(crew.struck(armed))
    try:
        shoves = await _shove(crew, armed, fault)
        await struck
    finally:
        struck.cancel()
        scene.away.unlink(missing_ok=True)
    scene.strikes()
    return f"{armed.instance} died at pass {fault.passes}{shoves}"


async def _crash_of_mails(scene: Scene, fault: Fault) -> str:
    """The same of the worker that mails what the others put out; the next one goes on, on its disk."""
    await scene.crew.whole()
    mailer = scene.mailing.begin(crash_at=f"{fault.point}:{fault.passes}")
    await scene.crew.struck(mailer)
    scene.strikes()
    return f"{mailer.instance} died at pass {fault.passes}"


async def _shove(crew: Crew, armed: Worker, fault: Fault) -> str:
    """The points of a rebalance are reached when somebody joins or leaves, as often as it takes."""
    if not fault.point.startswith("in-"):
        return ""
    await crew.ready_or_gone(armed)
    changes: list[str] = []
    while armed.alive and len(changes) < 2 * fault.passes:
        changes.append(await crew.guest_changes())
    return "".join(f", {change}" for change in changes)


def _small_batches(fault: Fault) -> dict[str, str]:
    return {} if fault.point.startswith("in-") else {"batch_records_max": "100"}


async def _kill(scene: Scene, fault: Fault) -> str:
    worker = scene.crew.pick(fault.which)
    worker.kill()
    scene.strikes()
    return f"{worker.instance} was killed"


async def _wipe(scene: Scene, fault: Fault) -> str:
    said = await _kill(scene, fault)
    name = said.split()[0]
    scene.trial.wipe(scene.trial.workers[name])
    return f"{said}, its disk emptied"


async def _stop(scene: Scene, fault: Fault) -> str:
    worker = scene.crew.pick(fault.which)
    scene.strikes()
    began = time.monotonic()
    await scene.crew.stop(worker)
    return f"{worker.instance} left within {time.monotonic() - began:.1f} s"


async def _freeze(scene: Scene, fault: Fault) -> str:
    worker = scene.crew.pick(fault.which)
    worker.freeze()
    return await _zombie(scene, worker)


async def _freeze_at(scene: Scene, fault: Fault) -> str:
    """SIGSTOP between two steps of a batch: what it has in hand, it writes when it is a zombie."""
    if fault.point == AT_SEND:
        armed = await scene.crew.begin({"CHAOS_STOP_AT_SEND": str(fault.passes)}, **_small_batches(fault))
    else:
        at = f"{fault.point}:{fault.passes}"
        armed = await scene.crew.begin({"CHAOS_STRIKE": "stop"}, crash_at=at, **_small_batches(fault))
    await scene.crew.stopped(armed)
    if not scene.crew.others(armed):
        await asyncio.to_thread((await scene.crew.begin()).wait_ready, 90)
    return await _zombie(scene, armed)


async def _zombie(scene: Scene, frozen: Worker) -> str:
    """Its successors take everything over while it thinks that it owns it; then it goes on."""
    scene.strikes()
    began = time.monotonic()
    await scene.trial.shared(*scene.crew.others(frozen), timeout_s=90)
    takeovers = len(scene.trial.takeovers(frozen))
    await asyncio.sleep(max(0.0, began + PAST_THE_SESSION * SESSION_S - time.monotonic()))
    slept_s = time.monotonic() - began
    frozen.thaw()
    await scene.trial.rejoined(frozen, takeovers, timeout_s=90)
    return f"{frozen.instance} slept {slept_s:.1f} s and is a member again"


async def _join_leave(scene: Scene, fault: Fault) -> str:
    scene.strikes()
    changes = [await scene.crew.guest_changes()]
    await scene.feed.some()
    changes.append(await scene.crew.guest_changes())
    return ", ".join(changes)


async def _broker(scene: Scene, fault: Fault) -> str:
    return await broker_is_killed(scene.trial, fault, scene.strikes)


ACTS: dict[str, Callable[[Scene, Fault], Awaitable[str]]] = {
    "crash": _crash,
    "kill": _kill,
    "wipe": _wipe,
    "stop": _stop,
    "freeze": _freeze,
    "freeze-at": _freeze_at,
    "join-leave": _join_leave,
    "broker": _broker,
}
