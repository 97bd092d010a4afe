"""Before the first record: every topic is there, with the partition counts that the agents need."""

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import TopicPartition

from pipeline.closing import ended
from pipeline.core.agent import Definition
from pipeline.core.errors import Misconfigured
from pipeline.core.event_time import DAY_MS
from pipeline.core.settle import Limits
from pipeline.core.topic import cleanup_policies
from pipeline.core.turn import row_bytes_max
from pipeline.runtime.admin import Admin, BrokerAway, connect
from pipeline.runtime.instance import named
from pipeline.runtime.ownership import BATCH_BYTES_MAX
from pipeline.runtime.partitioners import require_partitioners, uncommitted_sources
from pipeline.signals import stop_signals

if TYPE_CHECKING:
    from pipeline.runtime.app import App

log = logging.getLogger("hardparts.check")

BATCH_OVERHEAD_BYTES = 200
"""Header of a record batch, and room for the framing of the one record in it."""
BATCH_BYTES_FLOOR = 16_000
"""What is written without asking for the limit fits: small outputs, positions, an error record in its shortest form."""
AGE_MS_FLOOR = 60_000
"""A batch may take half of it from the look at the clock to the broker."""
BEFORE_MAX = "message.timestamp.before.max.ms"
DIFFERENCE_MAX = "message.timestamp.difference.max.ms"
RETRY_FIRST_S, RETRY_CAP_S = 0.5, 10.0
SAY_AGAIN_EVERY = 6
STATE_WAS_IN_IT = "the state was in it: stop the workers and see docs/runbook.md, A changelog that has lost rows"


class Unfit(NamedTuple):
    """What keeps the application from running on this cluster."""

    topic: str
    message: str
    remedy: str


async def check_topics(app: "App") -> dict[str, int]:
    """topic → partition count of everything that the agents running here read or write.

    Waits while no broker answers; OtherCluster when another cluster does in place of ours, which is the one that the
    state directory names. Misconfigured names each missing topic and each agent whose counts are unequal. The
    application's limits become those of the topics.
    """
    names = topics_needed(app)
    with named(app.settings.cluster_file):
        app.cluster_memory.recall()
    counts, configs, lost, uncommitted = await _patiently(app, names)
    with named(app.settings.cluster_file):
        app.cluster_memory.keep()
    app.context.cluster_id = app.cluster_memory.cluster_id or ""
    changelogs = [app.changelog(definition) for definition in app.definitions]
    if lost:
        raise Misconfigured(f"changelogs missing: {', '.join(sorted(lost))}: {STATE_WAS_IN_IT}")
    missing = [name for name in names if name not in counts]
    if missing:
        raise Misconfigured(f"topics missing: {', '.join(missing)}: create them with `hardparts topics apply`")
    problems = [
        *unfit(app, app.definitions, names, counts),
        *unkept(changelogs, configs),
        *too_small(written(app), configs),
        *too_young(written(app), configs),
    ]
    if problems:
        raise Misconfigured("; ".join(f"{problem.message}: {problem.remedy}" for problem in problems))
    if not app.partitioners_seen:  # a worker comes here twice
        options = {"bootstrap_servers": app.settings.brokers, **app.security}
        app.context.unread.update(await require_partitioners(app.definitions, counts, options, uncommitted))
        app.partitioners_seen = True
    app.context.limits = limits_of(app, configs)
    return counts


def limits_of(app: "App", configs: Mapping[str, Mapping[str, str]]) -> Limits:
    """What the topics of the agents that run here take. configs: topic → settings in force."""
    sizes = {name: int(config["max.message.bytes"]) for name, config in configs.items()}
    changelogs = [app.changelog(definition) for definition in app.definitions]
    closing = [row_bytes_max([topic.name for topic in definition.sources]) for definition in app.definitions]
    ages_ms = {name: age_ms for name, config in configs.items() if (age_ms := age_ms_max(config)) < DAY_MS}
    return limits(sizes, changelogs, max(closing, default=0), ages_ms)


def wait_until_fit(app: "App") -> bool:
    """`check_topics` ahead of Faust, whose worker would show its Misconfigured as a stack; False when a signal came."""

    async def check() -> bool:
        loop, checking = asyncio.get_running_loop(), asyncio.ensure_future(check_topics(app))
        stopping = asyncio.Event()
        stop_signals.then(lambda: loop.call_soon_threadsafe(stopping.set))
        waiting = asyncio.ensure_future(stopping.wait())
        try:
            await asyncio.wait([checking, waiting], return_when=asyncio.FIRST_COMPLETED)
            if stopping.is_set():
                return False
            await checking
            return True
        finally:
            stop_signals.then(None)
            await ended(checking, waiting)

    return asyncio.run(check())


def topics_needed(app: "App") -> list[str]:
    """Names of what the agents running here read or write, changelogs and our own topics among them."""
    named: dict[str, None] = {}
    for definition in app.definitions:
        named.update(dict.fromkeys(topic.name for topic in (*definition.sources, *definition.outputs)))
        named[app.changelog(definition)] = None
    own = [app.settings.topic("errors"), app.settings.topic("audit")]
    return list(named | dict.fromkeys(own))


def the_other_count(counts: Iterable[int], setting: int) -> int | None:
    """The one count that all of these have in place of the setting's; None when they differ, or agree with it."""
    found = set(counts)
    return found.pop() if len(found) == 1 and setting not in found else None


def set_partitions(count: int) -> str:
    """The remedy for a setting that isn't what the topics have."""
    return f"set HARDPARTS_PARTITIONS={count}"


def odd_setting(app: "App", counts: Mapping[str, int]) -> str | None:
    """A line about HARDPARTS_PARTITIONS when the topics of the agents that run here all have another count."""
    names = [
        name
        for definition in app.definitions
        if definition.sources[0].partitions is None
        for name in (*(topic.name for topic in definition.sources), app.changelog(definition))
    ]
    setting = app.settings.partitions
    other = the_other_count((counts[name] for name in names if name in counts), setting)
    if other is None:
        return None
    return (
        f"HARDPARTS_PARTITIONS is {setting}, but the topics of the agents have {other} partitions; "
        f"going by the topics: {set_partitions(other)}"
    )


def has_spare(changelog: int, sources: Iterable[int], declared: int) -> bool:
    """Whether a changelog has more partitions than its agent has units, which is harmless: nothing is written there.

    Sources that don't have the declared count may be new ones, in place of those that the changelog's rows come from.
    """
    return changelog > declared and set(sources) == {declared}


async def lost_changelogs(
    app: "App", definitions: Iterable[Definition], admin: Admin, counts: Mapping[str, int]
) -> set[str]:
    """Names of missing changelogs whose agents had state: the group has read something of their sources."""
    sources = {
        app.changelog(definition): [
            TopicPartition(topic.name, n) for topic in definition.sources for n in range(counts.get(topic.name, 0))
        ]
        for definition in definitions
        if app.changelog(definition) not in counts
    }
    asked = [tp for tps in sources.values() for tp in tps]
    read = await admin.committed(app.settings.app_id, asked) if asked else {}
    return {name for name, tps in sources.items() if any(read.get(tp, 0) > 0 for tp in tps)}


def unfit(
    app: "App",
    definitions: Iterable[Definition],
    names: Iterable[str],
    counts: Mapping[str, int],
    lost: Collection[str] = (),
) -> list[Unfit]:
    """Missing topics, and agents whose sources and changelog differ in their partition counts (counts: as they are).

    lost: missing changelogs that had rows.
    """
    problems = [
        Unfit(
            name,
            f"topic {name} doesn't exist",
            STATE_WAS_IN_IT if name in lost else "create it with `hardparts topics apply`",
        )
        for name in names
        if name not in counts
    ]
    for definition in definitions:
        changelog = app.changelog(definition)
        parts = {name: counts[name] for name in (*(t.name for t in definition.sources), changelog) if name in counts}
        declared = definition.sources[0].partitions or app.settings.partitions
        sources = [count for name, count in parts.items() if name != changelog]
        if changelog in parts and has_spare(parts[changelog], sources, declared):
            continue
        if len(set(parts.values())) > 1:
            shown = ", ".join(f"{name} has {count}" for name, count in parts.items())
            message = (
                f"agent {definition.name} needs equal partition counts of its sources and its changelog, but {shown}"
            )
            remedy = "see `hardparts topics plan`, and docs/runbook.md, Partition counts differ"
            problems.append(Unfit(changelog, message, remedy))
    return problems


def unkept(changelogs: Iterable[str], configs: Mapping[str, Mapping[str, str]]) -> list[Unfit]:
    """Changelogs from which the broker deletes rows that a rebuild needs. configs: topic → settings in force."""
    problems = []
    for name in changelogs:
        if name in configs and cleanup_policies(configs[name]) != {"compact"}:
            policy = configs[name].get("cleanup.policy", "")
            message = f"changelog {name} has cleanup.policy={policy} where it needs compact: its rows would be lost"
            problems.append(Unfit(name, message, "set it with `hardparts topics apply`"))
    return problems


def written(app: "App") -> set[str]:
    """Names of the topics that the agents running here write, changelogs and our own topics among them."""
    sources = {topic.name for definition in app.definitions for topic in definition.sources}
    outputs = {topic.name for definition in app.definitions for topic in definition.outputs}
    return (set(topics_needed(app)) - sources) | outputs


def too_small(topics: Iterable[str], configs: Mapping[str, Mapping[str, str]]) -> list[Unfit]:
    """Topics that wouldn't take even what is written without asking for their limit."""
    found = {name: int(configs[name]["max.message.bytes"]) for name in sorted(topics) if name in configs}
    return [
        Unfit(name, f"topic {name} has max.message.bytes={size}", f"raise it to {BATCH_BYTES_FLOOR} or more")
        for name, size in found.items()
        if size < BATCH_BYTES_FLOOR
    ]


def too_young(topics: Iterable[str], configs: Mapping[str, Mapping[str, str]]) -> list[Unfit]:
    """Topics that refuse a record that was made a minute ago."""
    found = {name: taken for name in sorted(topics) if (taken := _taken(configs.get(name, {}))) is not None}
    return [
        Unfit(
            name,
            f"topic {name} takes no record that is older than {taken_ms} ms ({setting})",
            f"raise it to {AGE_MS_FLOOR} or more, or set message.timestamp.type=LogAppendTime",
        )
        for name, (taken_ms, setting) in found.items()
        if taken_ms < AGE_MS_FLOOR
    ]


def age_ms_max(config: Mapping[str, str]) -> int:
    """How old a record may be when it is written: a day at most, half of what the topic takes and of what it keeps."""
    kept_ms = int(config.get("retention.ms", -1)) if "delete" in cleanup_policies(config) else -1
    taken_ms, _ = _taken(config) or (-1, "")
    return min([DAY_MS, *(ms // 2 for ms in (kept_ms, taken_ms) if ms >= 0)])


def _taken(config: Mapping[str, str]) -> tuple[int, str] | None:
    """How many ms old a record may be for the broker to take it, and by which setting; None when it doesn't look.

    Kafka 3.5 has the one, 4 the other, and between them both: the one that is left at its default says nothing.
    """
    if config.get("message.timestamp.type") == "LogAppendTime":
        return None
    said = [(int(config[name]), name) for name in (BEFORE_MAX, DIFFERENCE_MAX) if name in config]
    return min(said, default=None)


def limits(
    batch_bytes_max: Mapping[str, int],
    changelogs: Iterable[str],
    closing_bytes: int = 0,
    ages_ms: Mapping[str, int] | None = None,
) -> Limits:
    """The largest record of each topic and the largest set of rows, given each topic's `max.message.bytes`.

    closing_bytes: of the row that ends each record batch of a changelog. ages_ms: topic → as in Limits.
    """
    fits = {name: min(size, BATCH_BYTES_MAX) - BATCH_OVERHEAD_BYTES for name, size in batch_bytes_max.items()}
    rows = min((fits[name] for name in changelogs if name in fits), default=BATCH_BYTES_MAX - BATCH_OVERHEAD_BYTES)
    return Limits(
        rows_bytes_max=max(rows - closing_bytes, 1),
        record_bytes_max=fits,
        record_bytes_default=BATCH_BYTES_MAX - BATCH_OVERHEAD_BYTES,
        ages_ms=ages_ms,
        age_ms_small=min([DAY_MS, *(ages_ms or {}).values()]),
    )


class _Cluster(NamedTuple):
    """Of the topics asked for: the partition counts of those that are there, their settings in force, and which
    changelogs are lost. uncommitted: as of `uncommitted_sources`, the first time.
    """

    counts: dict[str, int]
    configs: dict[str, dict[str, str]]
    lost: set[str]
    uncommitted: dict[str, str]


async def _patiently(app: "App", names: list[str]) -> _Cluster:
    """What the cluster has of these topics; waits while no broker answers."""
    delay_s, attempt = RETRY_FIRST_S, 0
    while True:
        try:
            with _quiet_client():
                async with connect(app.settings, app.cluster_memory) as admin:
                    counts = {name: found.partitions for name, found in (await admin.topics(names)).items()}
                    configs = await admin.configs(counts)
                    await admin.require_ids(app.settings.app_id, f"{app.settings.app_id}/")
                    lost = await lost_changelogs(app, app.definitions, admin, counts)
                    uncommitted = {}
                    if not app.partitioners_seen:
                        uncommitted = await uncommitted_sources(app, app.definitions, admin, counts)
        except BrokerAway as error:
            if attempt % SAY_AGAIN_EVERY == 0:
                log.warning("waiting: %s", error)
            attempt += 1
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_CAP_S)
        else:
            return _Cluster(counts, configs, lost, uncommitted)


@contextmanager
def _quiet_client() -> Iterator[None]:
    """aiokafka logs each refused connection as an error; one line of ours says it."""
    client, level = logging.getLogger("aiokafka"), logging.getLogger("aiokafka").level
    client.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        client.setLevel(level)
