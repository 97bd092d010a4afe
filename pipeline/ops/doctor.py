"""The doctor: everything that keeps a worker from running, looked at one by one, each with its remedy."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from aiokafka import TopicPartition

from pipeline.contracts.catalogue import load_contracts
from pipeline.core.errors import Blocking, HardpartsError, Misconfigured
from pipeline.core.expiry import shown
from pipeline.kafka.memory import ClusterMemory, OtherCluster
from pipeline.ops.application import application
from pipeline.ops.plan import other_count, plan
from pipeline.ops.reading import reader
from pipeline.ops.topics import catalogue
from pipeline.producer import Limits, SpillUnusable, probe
from pipeline.runtime import descriptors
from pipeline.runtime.admin import Admin, Refused, TopicFound, client_options, connect
from pipeline.runtime.app import App
from pipeline.runtime.check import lost_changelogs, set_partitions, unfit
from pipeline.runtime.database import Database
from pipeline.runtime.expiry import too_short
from pipeline.runtime.instance import first_slot
from pipeline.runtime.ownership import Owner
from pipeline.runtime.partitioners import look, uncommitted_sources
from pipeline.runtime.security import client_security, described, unencrypted
from pipeline.runtime.settings import AUTO, Settings
from pipeline.runtime.transaction import TransactionalOwner

CLOCK_OFF_MAX_S = 5.0
CLOCK_FLOOR_S = 1_735_689_600  # 2025-01-01: an earlier clock was never set
CLOCK_TIMEOUT_S = 5.0
HELD_FOR_S = 3.0

MAY_NOT_SEE = "this user may not see it, so it isn't known whether it exists: an ACL keeps it from us"
GRANT = "grant Describe, or what a worker needs on it, to this user (docs/security.md)"

TRANSACTIONS = "transaction.max.timeout.ms"

Level = Literal["ok", "WARN", "FAIL"]


class Finding(NamedTuple):
    """What one check found. remedy: "" when there is nothing to do."""

    check: str
    level: Level
    detail: str
    remedy: str = ""


def ok(check: str, detail: str) -> Finding:
    """Nothing to do."""
    return Finding(check, "ok", detail)


async def examine(settings: Settings) -> list[Finding]:
    """Every check, those of the broker's side after the others; a broken one doesn't keep the rest from running."""
    given, settings = settings, first_slot(settings)
    findings = [data_directory(settings), spill_directory(given)]
    app: App | None = None
    try:
        app = application(settings)
        findings += [ok("application", f"{settings.app}: agents {', '.join(d.name for d in app.declared) or 'none'}")]
    except HardpartsError as error:
        findings.append(Finding("application", "FAIL", *_split(error)))
    findings += list(imports(settings))
    if app is not None:
        findings += [contracts(app), await database(app), open_files(app)]
    reached = way_to_the_brokers(settings)
    return [*findings, reached, *await _cluster(settings, app, reached)]


def data_directory(settings: Settings) -> Finding:
    """A real write, flushed to the disk, where the worker keeps its state."""
    where = settings.state_dir
    probe = where / f".doctor-{os.getpid()}"
    try:
        where.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as file:
            file.write(b"written by hardparts doctor")
            file.flush()
            os.fsync(file.fileno())
        probe.unlink()
    except OSError as error:
        detail = f"{error.filename or where} can't be written: {error.strerror} (errno {error.errno})"
        return Finding(
            "data directory", "FAIL", detail, f"give this user write access to {where}, or set HARDPARTS_DATA_DIR"
        )
    return ok("data directory", f"{where.absolute()} takes writes")


def spill_directory(settings: Settings) -> Finding:
    """A real write where messages wait that Kafka hasn't confirmed; one that is named is not made here."""
    where = settings.spill
    if settings.spill_dir is None and settings.instance == AUTO:
        return ok("spill directory", "none with HARDPARTS_INSTANCE=auto: a gateway needs a name of its own")
    try:
        if settings.spill_dir is None:
            where.mkdir(parents=True, exist_ok=True)
        probe(where, Limits().disk_free_bytes_min)
    except SpillUnusable as error:
        remedy = f"make it, give this user write access and room in {where}, or set HARDPARTS_SPILL_DIR"
        return Finding("spill directory", "FAIL", str(error), remedy)
    except OSError as error:
        detail = f"{error.filename or where} can't be made: {error.strerror} (errno {error.errno})"
        return Finding("spill directory", "FAIL", detail, f"give this user write access to {where.parent}")
    return ok("spill directory", f"{where.absolute()} takes writes")


def imports(settings: Settings) -> Iterator[Finding]:
    """`agents` and `tables` are names that other packages use too: each must come from the application's own tree."""
    application_name = settings.app.partition(":")[0].partition(".")[0]
    roots = {Path.cwd().resolve()} | {_root(name) for name in ("pipeline",)}
    for name in dict.fromkeys((application_name, "agents", "tables")):
        if name not in sys.modules and name != application_name:
            continue  # this application has none
        found = _root(name)
        if found is None:
            continue  # named by the application check
        check = f"import {name}"
        if found in roots:
            yield ok(check, f"from {found / name}")
        else:
            remedy = f"uninstall what brought it, or run in an environment of its own; expected under {Path.cwd()}"
            yield Finding(check, "FAIL", f"comes from {found / name}, not from the application's own tree", remedy)


def contracts(app: App) -> Finding:
    """Every contract file loads, and each topic that is read or written has one."""
    try:
        loaded = load_contracts(app.contracts_dir)
        count = len(app.contracts)
    except Misconfigured as error:
        return Finding("contracts", "FAIL", str(error), "mend the file that is named")
    types = sum(len(contract.types) for contract in loaded.values())
    return ok("contracts", f"{count} topics, {types} types in {app.contracts_dir}")


async def database(app: App) -> Finding:
    """The read model answers; it is only needed by agents that write there, so it is a warning."""
    target = Database(app.settings.database, app.read_model)
    try:
        await asyncio.to_thread(target.check)
    except (Blocking, Misconfigured) as error:
        return Finding(
            "database", "WARN", str(error), "start it or set HARDPARTS_DATABASE_URL; agents that write there will wait"
        )
    except Exception as error:  # noqa: BLE001 - a URL that SQLAlchemy can't read, a driver that isn't installed
        return Finding("database", "WARN", f"{type(error).__name__}: {error}", "mend HARDPARTS_DATABASE_URL")
    finally:
        target.close()
    return ok("database", "answers, tables are there")


def open_files(app: App) -> Finding:
    """The limit of open files, which a worker raises as far as it may, and what all units on one worker may need."""
    settings = app.settings
    units = sum(definition.sources[0].partitions or settings.partitions for definition in app.definitions)
    wanted, limit = descriptors.needed(units, len(settings.brokers)), descriptors.attainable()
    detail = f"up to {wanted} for {units} units on one worker, and {limit} are allowed"
    if limit < wanted:
        return Finding("open files", "WARN", detail, descriptors.remedy(wanted))
    return ok("open files", detail)


def way_to_the_brokers(settings: Settings) -> Finding:
    """TLS and SASL as the settings say, their files read; plaintext beyond this machine is a warning, or refused."""
    try:
        client_security(settings)
    except Misconfigured as error:
        return Finding("security", "FAIL", *_split(error))
    far = unencrypted(settings)
    if far:
        detail = f"{described(settings)} to {', '.join(far)}, as HARDPARTS_ALLOW_PLAINTEXT says"
        return Finding("security", "WARN", detail, "only inside a closed network; else HARDPARTS_SECURITY_PROTOCOL")
    return ok("security", described(settings))


async def _cluster(settings: Settings, app: App | None, reached: Finding) -> list[Finding]:
    if reached.level == "FAIL":
        why = "not looked at: the settings of security don't allow it"
        return [Finding("broker", "WARN", why), Finding("topics", "WARN", why), clock(settings, None)]
    address, memory = ",".join(settings.brokers), ClusterMemory(kept_in=settings.cluster_file)
    with suppress(OSError):  # what can't be read is named by the data directory's check, or by the worker
        memory.recall()
    try:
        async with connect(settings, memory) as admin:
            found = await admin.topics()
            findings = [ok("broker", f"{address} answers, cluster {memory.cluster_id or 'without an id'}")]
            findings += transactions(settings.exactly_once, await admin.broker_setting(TRANSACTIONS))
            if app is not None:
                findings += await topics(app, admin, found)
                findings += await open_transactions(settings, _sources(app, found), memory)
                findings += await partitioners(app, admin, found, memory)
    except HardpartsError as error:
        strange = isinstance(error, OtherCluster)
        findings = [
            Finding("broker", "FAIL", *_split(error)),
            Finding("topics", "WARN", f"not looked at: {'another cluster' if strange else 'no broker'} answers"),
        ]
        return [*findings, clock(settings, None)]
    names = [name for name in found if app is not None and name in {topic.name for topic in app.all_topics()}]
    counts = {name: found[name].partitions for name in names}
    return [*findings, clock(settings, await _ahead_s(settings, counts, memory))]


def transactions(exactly_once: bool, allowed_ms: str | None) -> list[Finding]:
    """Whether a worker can own units there. allowed_ms: the broker's setting; None: it can't be asked for it."""
    if allowed_ms is None or not allowed_ms.isdecimal():
        return []
    least = (TransactionalOwner if exactly_once else Owner).TRANSACTION_TIMEOUT_MIN_MS
    detail = f"{TRANSACTIONS} of the broker is {allowed_ms}"
    if int(allowed_ms) < least:
        return [Finding("transactions", "FAIL", detail, f"raise it to {least} or more")]
    return [ok("transactions", detail)]


async def topics(app: App, admin: Admin, found: dict[str, TopicFound]) -> list[Finding]:
    """Those of the catalogue as they are; of one that this user may not see, only that. found: what is there."""
    wanted = catalogue(app)
    hidden = await admin.hidden(topic.name for topic in wanted if topic.name not in found)
    wanted = [topic for topic in wanted if topic.name not in hidden]
    names = [topic.name for topic in wanted]
    configs = await admin.configs(name for name in names if name in found)
    counts = {name: there.partitions for name, there in found.items()}
    lost = await lost_changelogs(app, app.declared, admin, counts)
    differences = plan(wanted, found, configs, lost=lost)
    not_made = {one.topic: one.refused for one in differences if one.kind == "missing" and one.refused}
    findings = [Finding(f"topic {name}", "FAIL", MAY_NOT_SEE, GRANT) for name in sorted(hidden)]
    findings += [
        Finding(f"topic {problem.topic}", "FAIL", problem.message, not_made.get(problem.topic, problem.remedy))
        for problem in unfit(app, app.declared, names, counts, lost)
    ]
    other = other_count(wanted, found)
    if other is not None:
        detail = f"HARDPARTS_PARTITIONS is {app.settings.partitions}, but the topics of the agents have {other}"
        findings.append(Finding("partitions", "WARN", f"{detail}; workers go by the topics", set_partitions(other)))
    by_setting = {topic.name for topic in wanted if topic.by_setting}
    for difference in differences:
        if difference.kind == "missing":
            continue  # named above
        if difference.kind == "partitions" and other is not None and difference.topic in by_setting:
            continue  # one line for all of them above
        level: Level = "FAIL" if difference.kind == "partitions" else "WARN"
        detail = f"{difference.kind} {difference.found}, the catalogue wants {difference.wanted}"
        findings.append(
            Finding(f"topic {difference.topic}", level, detail, difference.refused or "run `hardparts topics apply`")
        )
    if not findings:
        findings.append(ok("topics", f"all {len(names)} as the catalogue wants them"))
    return [*findings, *horizon(app, configs)]


def horizon(app: App, configs: dict[str, dict[str, str]]) -> list[Finding]:
    """Marks must outlive the records of the sources; nothing to say while marks are kept for ever."""
    horizon_s = app.settings.dedup_horizon_s
    if horizon_s is None:
        return []
    sources = {topic.name for agent in app.declared for topic in agent.sources}
    remedy = "raise HARDPARTS_DEDUP_HORIZON_S above the topic's retention.ms, or lower that"
    short = too_short(horizon_s, configs, sources)
    check = "deduplication horizon"
    return [Finding(check, "WARN", line, remedy) for line in short] or [
        ok(check, f"{shown(horizon_s)}, longer than every source keeps its records")
    ]


def _sources(app: App, found: dict[str, TopicFound]) -> list[TopicPartition]:
    names = [topic.name for agent in app.declared for topic in agent.sources if topic.name in found]
    return [TopicPartition(name, number) for name in names for number in range(found[name].partitions)]


async def open_transactions(
    settings: Settings, sources: list[TopicPartition], memory: ClusterMemory | None = None
) -> list[Finding]:
    """Each source must be readable up to its end; one whose readable part hasn't grown for HELD_FOR_S is a warning."""
    check = "open transactions"
    try:
        held = await _held_at(settings, sources, memory)
        if held:
            await asyncio.sleep(HELD_FOR_S)
            later = await _held_at(settings, list(held), memory)
            held = {tp: offset for tp, offset in held.items() if later.get(tp) == offset}
    except HardpartsError as error:
        return [Finding(check, "WARN", f"not looked at: {error}")]
    remedy = "let its writer end it, or abort it: see the runbook, alert open-transaction"
    return [
        Finding(check, "WARN", f"{tp.topic}[{tp.partition}] can be read up to {offset} only: one is open there", remedy)
        for tp, offset in held.items()
    ] or [ok(check, "none holds a source back")]


async def partitioners(app: App, admin: Admin, found: dict[str, TopicFound], memory: ClusterMemory) -> list[Finding]:
    """The last records of each source stand where its declared partitioner puts them."""
    check = "partitioners"
    counts = {name: there.partitions for name, there in found.items()}
    options = {**client_options(app.settings), "cluster_memory": memory}
    try:
        uncommitted = await uncommitted_sources(app, app.declared, admin, counts)
    except Refused:  # who runs this may not see the group: then nothing says that it has read nothing
        uncommitted = {}
    doubts = (await look(app.declared, counts, options, uncommitted)).doubts
    if not doubts:
        return [ok(check, "nothing to look at")]
    findings = [
        Finding(check, "FAIL" if one.certain else "WARN", one.message, one.remedy)
        for one in doubts.values()
        if one is not None
    ]
    return findings or [ok(check, "the last records of each source are where the declared one puts them")]


async def _held_at(
    settings: Settings, sources: list[TopicPartition], memory: ClusterMemory | None
) -> dict[TopicPartition, int]:
    async with (
        reader(settings, cluster_memory=memory) as committed,
        reader(settings, committed_only=False, cluster_memory=memory) as everything,
    ):
        readable = await committed.end_offsets(sources)  # first: what comes between the two isn't held back
        ends = await everything.end_offsets(sources)
    return {tp: readable[tp] for tp in sources if readable[tp] < ends[tp]}


def clock(settings: Settings, ahead_s: float | None) -> Finding:
    """This clock against the data directory's, and against the times of records; Kafka doesn't tell its own time.

    ahead_s: by how much the newest record seen lies in the future; None when no broker could be asked.
    """
    remedy = "synchronise the clocks (NTP)"
    now = time.time()
    if now < CLOCK_FLOOR_S:
        return Finding("clock", "FAIL", f"it is {time.strftime('%Y-%m-%d', time.gmtime(now))} here", remedy)
    disk_s = _disk_clock_off_s(settings.state_dir)
    if disk_s is not None and abs(disk_s) > CLOCK_OFF_MAX_S:
        return Finding("clock", "WARN", f"the data directory's clock is {disk_s:+.1f} s from this one", remedy)
    if ahead_s is not None and ahead_s > CLOCK_OFF_MAX_S:
        detail = f"a record is {ahead_s:.0f} s ahead of this clock: it is slow, or a producer's is fast"
        return Finding("clock", "WARN", detail, remedy)
    seen = "no record is ahead of it" if ahead_s is not None else "not compared with records"
    return ok(
        "clock", f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(now))}, {seen} (Kafka doesn't tell its own time)"
    )


async def _ahead_s(settings: Settings, topics: dict[str, int], memory: ClusterMemory) -> float:
    late_ms = int((time.time() + CLOCK_OFF_MAX_S) * 1000)
    wanted = {TopicPartition(name, number): late_ms for name, count in topics.items() for number in range(count)}
    if not wanted:
        return 0.0
    with suppress(HardpartsError, TimeoutError):
        async with asyncio.timeout(CLOCK_TIMEOUT_S), reader(settings, cluster_memory=memory) as consumer:
            found = await consumer.offsets_for_times(wanted)
            return max(
                (place.timestamp / 1000 - time.time() for place in found.values() if place is not None), default=0.0
            )
    return 0.0


def _disk_clock_off_s(directory: Path) -> float | None:
    probe = directory / f".doctor-clock-{os.getpid()}"
    try:
        probe.write_bytes(b"")
        off_s = probe.stat().st_mtime - time.time()
        probe.unlink()
    except OSError:
        return None
    return off_s


def _root(name: str) -> Path | None:
    """The directory that holds the package `name`."""
    module = sys.modules.get(name)
    if module is None:
        return None
    places = [module.__file__] if module.__file__ else list(getattr(module, "__path__", []))
    if not places:
        return None
    place = Path(places[0]).resolve()
    return place.parent.parent if module.__file__ else place.parent


def _split(error: HardpartsError) -> tuple[str, str]:
    """A message "what: remedy" as its two parts."""
    what, colon, remedy = str(error).rpartition(": ")
    return (what, remedy) if colon else (str(error), "")
