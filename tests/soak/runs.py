"""The runs that there are: what each proves, about how long it takes, and the parts that it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.kafka import sizes
from tests.kafka.trial import GUARANTEES
from tests.soak.parts import Chaos, FileOfTests, GatewayLoad, Part

CHAOS_SIZES = (sizes.CHAOS_EVENTS, sizes.CHAOS_KILLS, sizes.CHAOS_BROKER_KILLS, sizes.CHAOS_BROKERS)


@dataclass(frozen=True, slots=True)
class Run:
    """minutes, short_s: about how long the full and the short form take on a quiet machine with 2 cores."""

    proves: str
    minutes: int
    short_s: int
    parts: Sequence[Part]


RUNS: dict[str, Run] = {
    "chaos": Run(
        "workers and brokers die at every named point and at random: nothing is lost or applied twice, all is in "
        "order, with both guarantees",
        40,
        90,
        [Chaos(CHAOS_SIZES, guarantee) for guarantee in GUARANTEES],
    ),
    "kill": Run(
        "a worker is killed under load and starts again on its disk and on an empty one, with both guarantees; "
        "starts on an empty disk while records wait",
        4,
        90,
        [FileOfTests((sizes.EVENTS, sizes.ROUNDS), "tests/kafka/test_kill.py")],
    ),
    "producer": Run(
        "what the reliable producer accepted is in the topic, in order, though leaders move, all three brokers die "
        "and come back, and its process is killed twice",
        5,
        50,
        [FileOfTests((sizes.PRODUCER_MESSAGES, sizes.PRODUCER_RATE), "tests/kafka/test_producer.py", draws=False)],
    ),
    "outbox": Run(
        "every row that four writers commit is in its topic, in order per key, though the relay is killed again "
        "and again; SQLite and PostgreSQL",
        2,
        30,
        [FileOfTests((sizes.OUTBOX_ROWS, sizes.OUTBOX_KILLS), "tests/kafka/test_outbox.py", "killed", draws=False)],
    ),
    "hostile": Run(
        "each hostile record has one error record, every good one counts, and the event loop never stands still for "
        "a second",
        3,
        40,
        [FileOfTests((sizes.HOSTILE,), "tests/kafka/test_hostile_on_kafka.py")],
    ),
    "gateway": Run(
        "every event that the gateway accepted is in the topic, in order per user, though Kafka is unavailable for "
        "half of the time",
        12,
        50,
        [GatewayLoad((sizes.GATEWAY_RATE, sizes.GATEWAY_SECONDS))],
    ),
}
