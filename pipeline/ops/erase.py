"""Erasing one user from outside: each agent's worker is asked, then the topics are read for what can't be erased."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import aiohttp

from pipeline.core.agent import Definition
from pipeline.core.erasure import kept_until_ms, upstream_first
from pipeline.core.errors import HardpartsError, Misconfigured
from pipeline.core.expiry import shown
from pipeline.core.routing import encode_key, partition_of
from pipeline.core.topic import cleanup_policies
from pipeline.kafka.memory import ClusterMemory
from pipeline.ops.reading import read_to_end
from pipeline.runtime.admin import connect
from pipeline.runtime.app import App
from pipeline.runtime.identity import Identity, require_ours
from pipeline.runtime.settings import Settings
from pipeline.runtime.token import HEADER, bearer

ANSWER_WITHIN_S = 60.0
MISDIRECTED = 421
CALENDAR_END_MS = 253_402_300_800_000
"""The year 10000. A retention of 2^63-1 ms says "for ever", and a record may say any time."""

Place = Literal["state", "sql", "topic", "changelog"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report. name: table or topic. count: rows or records. detail: what becomes of them."""

    place: Place
    where: str
    name: str
    count: int
    detail: str


class NotErased(HardpartsError):
    """A part is not erased; the message says which, and what to do. Doing it all again is harmless."""


async def erase_rows(app: App, key: str, workers: Sequence[str], say: Callable[[Line], None], *, dry_run: bool) -> None:
    """State and SQL rows of `key`, erased by the workers at these URLs; NotErased as soon as one agent's can't be.

    say: called with each line of the report, also with those of agents that were done before one that fails. Agents
    upstream go first: what they have written by then is finished downstream before it is erased there.
    """
    token = app.settings.token
    if not token:
        raise Misconfigured("erasing needs HARDPARTS_WEB_TOKEN, the same as the workers have")
    memory = ClusterMemory()
    async with connect(app.settings, memory):
        ours = Identity(app.settings.app_id, memory.cluster_id or "")
    sql: defaultdict[str, int] = defaultdict(int)
    done = "found" if dry_run else "erased"
    async with _session(token) as session:
        checked: set[str] = set()
        for worker in workers:
            await _why_silent(session, worker, ours, checked)
        for agent in upstream_first(app.definitions):
            looked: set[int] = set()
            for place in await _places(app, agent, key):
                answer = await _ask(
                    session, agent, workers, ours, checked, {"agent": agent.name, "dry_run": dry_run, **place}
                )
                if answer["partition"] in looked:
                    continue
                looked.add(answer["partition"])
                where = f"{agent.name}[{answer['partition']}]"
                for table, count in sorted(answer["rows"].items()):
                    say(Line("state", where, table, count, done))
                for table, count in answer["sql"].items():  # each unit looks; in a dry run each finds the same rows
                    sql[table] = max(sql[table], count) if dry_run else sql[table] + count
    for table, count in sorted(sql.items()):
        say(Line("sql", "read model", table, count, done))


async def what_stays(app: App, key: str, on_progress: Callable[[int, int], None]) -> list[Line]:
    """Records under `key` in topics from which Kafka can't delete a single one, and until when they are kept."""
    settings, now_ms = app.settings, time.time() * 1000
    own = [settings.topic("errors"), settings.topic("audit")]
    changelogs = [app.changelog(agent) for agent in app.definitions]
    async with connect(settings) as admin:
        found = await admin.topics([*(topic.name for topic in app.catalogue), *own, *changelogs])
        configs = await admin.configs(found)
    lines = []
    for name in (*(topic.name for topic in app.catalogue), *own):
        if name not in found:
            continue
        topic = app.catalogue.topics.get(name)
        numbers = _partitions(key, found[name].partitions, topic.partitioner) if topic and topic.ordered else None
        held: defaultdict[int, int] = defaultdict(int)
        newest_ms = 0
        async for record in read_to_end(settings, name, numbers, on_progress, committed_only=False):
            if record.key is not None and record.key.decode(errors="replace").lower() == key.lower():
                held[record.partition] += 1
                newest_ms = max(newest_ms, record.timestamp)
        detail = _kept(configs[name], newest_ms, now_ms)
        lines += [Line("topic", f"{name}[{number}]", name, count, detail) for number, count in sorted(held.items())]
    for agent, name in zip(app.definitions, changelogs, strict=True):
        if name in found:
            numbers = _partitions(key, found[agent.sources[0].name].partitions, agent.partitioner)
            where = f"{name}[{numbers[0]}]" if numbers and _finds(agent) else name
            lines.append(Line("changelog", where, name, 0, _compacted(configs[name])))
    return lines


def _spellings(key: str) -> list[str]:
    """As its records may have it: before such records were rejected, upstream may have written a UUID in capitals."""
    return list(dict.fromkeys((key.lower(), key.upper(), key)))


def _partitions(key: str, count: int, partitioner: str) -> list[int] | None:
    """Where records under this key are; None: anywhere."""
    if partitioner == "any":
        return None
    return list(dict.fromkeys(partition_of(encode_key(text), count, partitioner) for text in _spellings(key)))


def _finds(agent: Definition) -> bool:
    """Whether the key says in which unit it is: all sources have one partitioner, which is known."""
    partitioners = {topic.partitioner for topic in agent.sources if topic.ordered}
    return len(partitioners) < 2 and "any" not in partitioners


async def _places(app: App, agent: Definition, key: str) -> list[dict[str, Any]]:
    """What to ask the workers for, so that every unit is asked that may have rows of the key."""
    if _finds(agent):
        return [{"key": text, "capitals": text == key.upper() != key.lower()} for text in _spellings(key)]
    async with connect(app.settings) as admin:
        found = await admin.topics([topic.name for topic in agent.sources])
    count = max((topic.partitions for topic in found.values()), default=0)
    return [{"key": key, "partition": number} for number in range(count)]


def _kept(config: dict[str, str], newest_ms: int, now_ms: float) -> str:
    until_ms = kept_until_ms(newest_ms, config)
    if until_ms is not None:
        kept = shown(int(config["retention.ms"]) / 1000)
        if until_ms < now_ms:
            return f"past the retention of {kept}: the broker removes it with its segment"
        if until_ms >= CALENDAR_END_MS:
            return f"stays for ever: retention {kept}"
        moment = datetime.fromtimestamp(until_ms / 1000, UTC).strftime("%Y-%m-%d")
        return f"stays until {moment} at the latest (retention {kept}, and until its segment is closed)"
    if "compact" in cleanup_policies(config):
        return "stays: compacted; its owner can write a tombstone"
    return "stays for ever: no retention"


def _compacted(config: dict[str, str]) -> str:
    lag_ms, segment_ms = int(config.get("max.compaction.lag.ms", 2**63 - 1)), int(config.get("segment.ms", 0))
    bound = (
        f"after {shown(lag_ms / 1000)} at most" if lag_ms < 2**62 else "when it next compacts, no time is set for that"
    )
    return f"older values go {bound}; not before their segment is closed ({shown(segment_ms / 1000)})"


async def _why_silent(session: aiohttp.ClientSession, worker: str, ours: Identity, checked: set[str]) -> str:
    """Before anything is erased there: one that isn't ours is NotErased, or Misconfigured.

    "" once it is in `checked`; else why it doesn't answer: it is checked again before it is asked to erase.
    """
    if worker in checked:
        return ""
    try:
        async with session.get(f"{worker.rstrip('/')}/health/live", allow_redirects=False) as reply:
            told = require_ours(worker, reply.headers, ours)
    except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError) as error:  # the last: no name of a host
        return str(error) or type(error).__name__
    if not told:
        raise NotErased(
            f"{worker} doesn't say which application it belongs to: it is of an older version, or no worker. "
            "Nothing is erased there: upgrade it, or name another one (--worker URL)"
        )
    checked.add(worker)
    return ""


async def _ask(
    session: aiohttp.ClientSession,
    agent: Definition,
    workers: Sequence[str],
    ours: Identity,
    checked: set[str],
    asked: dict[str, Any],
) -> dict[str, Any]:
    """The answer of the worker that has the unit; NotErased says what the workers said instead."""
    said = []
    for worker in workers:
        if why := await _why_silent(session, worker, ours, checked):
            said.append(_silent(worker, why))
            continue
        try:
            async with session.post(f"{worker.rstrip('/')}/erase", json=asked, allow_redirects=False) as reply:
                body = await reply.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said.append(_silent(worker, str(error) or type(error).__name__))
            continue
        except ValueError:
            said.append(f"{worker} answers {reply.status}, but is no worker: name one with --worker URL")
            continue
        if reply.status == 200 and isinstance(body, dict):
            return body
        reason = str(body.get("error", "")) if isinstance(body, dict) else ""
        said.append(f"{worker} answers {reply.status}: {reason}{_remedy(reply.status)}")
    raise NotErased(f"agent {agent.name} is not erased; {'; '.join(said)}. Then do it again: it is harmless")


def _silent(worker: str, why: str) -> str:
    return f"no worker answers at {worker} ({why}): start one (`hardparts worker`) or name it (--worker URL)"


def _remedy(status: int) -> str:
    if status == MISDIRECTED:
        return ", name the worker that has it as well (--worker URL)"
    return ", try again" if status == 503 else ""


@asynccontextmanager
async def _session(token: str) -> AsyncIterator[aiohttp.ClientSession]:
    timeout, headers = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S), {HEADER: bearer(token)}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        yield session
    await asyncio.sleep(0)  # lets the connector's transports close before the loop does


def workers_of(settings: Settings, named: Sequence[str]) -> list[str]:
    """The workers to ask: those named, or the one that the settings describe."""
    return list(named) or [f"http://{settings.web_host}:{settings.web_port}"]
