"""The schedule of faults: drawn from a seed, printed before the first one, the same again for the same options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random
from typing import Literal

from pipeline.runtime.crashpoints import POINTS

OF_MAILS = ("after-claim", "after-rows")
"""Points on the way of a claim, where the worker that mails dies."""
ON_THE_PATH = tuple(point for point in POINTS if point.startswith("after-") and point not in OF_MAILS)
AT_SEND = "lease checked"
"""Not a named point: between the check of the lease and the send of rows."""
PASSES_MAX = {"in-recovery": 2, "in-rebalance": 2, "while-blocked": 4, "after-claim": 4, "after-rows": 2}
"""How often a point may be passed before it strikes; the others lie on the path of every batch."""
PASSES_OF_A_BATCH_MAX = 20
KILLS = ("kill", "wipe")
OTHERS = ("stop", "freeze", "freeze-at", "join-leave")
KILLS_AN_OTHER = 8
"""One of each of OTHERS comes with so many kills."""
ROLES = {1: ("broker",), 3: ("leader", "coordinator", "controller", "transactions")}
AWAY_MAX_S = 6.0

Which = Literal["elder", "younger"]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said."""

    seed: int
    events: int = 60_000
    kills: int = 10
    broker_kills: int = 0
    brokers: Literal[1, 3] = 1
    guarantee: str = "at_least_once"

    @property
    def command(self) -> str:
        """What repeats the run."""
        flags = (
            f"--events {self.events} --kills {self.kills} --broker-kills {self.broker_kills} --brokers {self.brokers} "
            f"--guarantee {self.guarantee} --seed {self.seed}"
        )
        return f'make chaos ARGS="{flags}"'


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. kind: crash (SIGKILL at a named point), kill, wipe, stop, freeze, freeze-at, join-leave or broker.

    point, passes: of crash and freeze-at. which: the worker that it meets, by age. role: of a broker. gap: share of
    this fault's part of the input that is written before it. settles: whether the others take over before the next one.
    """

    number: int
    kind: str
    point: str = ""
    passes: int = 0
    which: Which = "elder"
    role: str = ""
    away_s: float = 0.0
    gap: float = 0.0
    settles: bool = True

    @property
    def name(self) -> str:
        """What a reader of the report calls it."""
        match self.kind:
            case "crash":
                return f"SIGKILL {self.point}"
            case "kill":
                return "SIGKILL"
            case "wipe":
                return "SIGKILL, disk wiped"
            case "stop":
                return "SIGTERM"
            case "freeze":
                return "SIGSTOP past the session"
            case "freeze-at":
                return f"SIGSTOP {self.point}"
            case "join-leave":
                return "a worker joins and leaves"
        return f"broker SIGKILL: {self.role}"

    def __str__(self) -> str:
        match self.kind:
            case "crash" | "freeze-at":
                detail = f", pass {self.passes}"
            case "broker":
                detail = f", away {self.away_s:.1f} s" if self.away_s else ""
            case "join-leave":
                detail = ""
            case _:
                detail = f", the {self.which}"
        return f"{self.number:3} {self.name}{detail}{'' if self.settles else ', the next one at once'}"


def schedule(options: Options) -> list[Fault]:
    """The faults of a run, in order."""
    rng = Random(options.seed)
    deck: list[tuple[str, str]] = [*islice(_rounds(rng), options.kills)]
    for kind in OTHERS:
        deck += [(kind, "")] * max(1, options.kills // KILLS_AN_OTHER)
    deck += islice(cycle(("broker", role) for role in ROLES[options.brokers]), options.broker_kills)
    rng.shuffle(deck)
    return [_fault(rng, number, kind, what, options) for number, (kind, what) in enumerate(deck, 1)]


def _rounds(rng: Random) -> Sequence[tuple[str, str]]:
    """Every way to kill once before any comes twice, without end."""
    ways = [*(("crash", point) for point in POINTS), *((kind, "") for kind in KILLS)]
    return cycle(rng.sample(ways, len(ways)))  # type: ignore[return-value]


def _fault(rng: Random, number: int, kind: str, what: str, options: Options) -> Fault:
    point = what if kind == "crash" else rng.choice((*ON_THE_PATH, AT_SEND)) if kind == "freeze-at" else ""
    passes = rng.randint(1, PASSES_MAX.get(point, PASSES_OF_A_BATCH_MAX)) if point else 0
    which: Which = rng.choice(("elder", "younger"))
    away_s = rng.uniform(1.0, AWAY_MAX_S) if kind == "broker" and options.brokers == 1 else 0.0
    gap, settles = rng.uniform(0.05, 0.4), rng.random() < 0.5
    return Fault(number, kind, point, passes, which, what if kind == "broker" else "", away_s, gap, settles)
