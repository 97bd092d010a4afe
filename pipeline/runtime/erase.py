"""`POST /erase`: the rows of one key deleted by the unit that owns them, between two of its batches (D10).

Only a unit's own producer may write its changelog, so the request goes to the worker that runs the unit. Before it
deletes, the unit has finished all that its sources held when it was asked, and that is committed: marks go too, so what
would be read again would be applied again.
"""

import asyncio
import json
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from aiohttp import web as http
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP

from pipeline.core.erasure import MARKS_TABLE, claims_of, of_key
from pipeline.core.errors import HardpartsError
from pipeline.core.routing import encode_key, partition_of
from pipeline.core.state import Row
from pipeline.runtime.settings import Settings
from pipeline.runtime.token import HEADER, shows
from pipeline.runtime.unit import Unit

if TYPE_CHECKING:
    from pipeline.runtime.app import App

log = logging.getLogger("hardparts.erase")

WITHIN_S = 30.0
"""How long a request waits for the unit to catch up and do it."""
ENDS_WITHIN_S = 5.0
LOOK_EVERY_S = 0.1
SLICE_ROWS = 1_000
KEY_CHARS_MAX = 1_000


class NotNow(HardpartsError):
    """It can't be done now; nothing or a part has been erased, and asking again is harmless."""


def install(app: "App", router: http.UrlDispatcher) -> None:
    """Add the route."""

    async def erase(request: http.Request) -> http.Response:
        return await answer(app, request)

    router.add_post("/erase", erase)


async def answer(app: "App", request: http.Request) -> http.Response:
    """200 with the counts of one agent. 401, 403: no token. 404: no such agent. 421: another worker. 503: not now."""
    refused = may_not_erase(app.settings, request.headers.get(HEADER, ""))
    if refused is not None:
        return _problem(*refused)
    asked = await _asked(request)
    if asked is None:
        return _problem(400, 'send {"agent": NAME, "key": TEXT, "dry_run": true or false}')
    name, key, dry_run, capitals, partition = asked
    definition = next((one for one in app.definitions if one.name == name), None)
    if definition is None:
        return _problem(404, f"no agent {name} runs here: there are {', '.join(one.name for one in app.definitions)}")
    if app.ready_partitions is None:
        return _problem(503, "not ready: taking partitions over")
    written = encode_key(key.upper() if capitals else key)  # rows are where its records went, under it in lower case
    key = key.lower()
    if partition is None:
        count = app.context.partitions[definition.sources[0].name]
        partition = partition_of(written, count, definition.partitioner)
    unit = app.units.get(name, partition)
    if unit is None:
        return _problem(421, f"partition {partition} of {name} is not here", partition=partition)
    erasure = Erasure(app, unit, key, dry_run)
    try:
        await erasure.run(time.monotonic() + WITHIN_S)
    except HardpartsError as error:
        return _problem(503, f"{name}[{partition}]: {error}")
    except Exception as error:
        log.exception("%s: erasing failed", unit.name)
        return _problem(500, f"{name}[{partition}]: {type(error).__name__}: the worker's log says more")
    log.info("%s: %s", unit.name, "looked for one key" if dry_run else "erased one key")  # not which: it is personal
    body = {"agent": name, "partition": partition, "dry_run": dry_run, "rows": erasure.rows, "sql": erasure.sql}
    return http.json_response(body)


class _Asked(NamedTuple):
    agent: str
    key: str
    dry_run: bool
    capitals: bool
    partition: int | None


async def _asked(request: http.Request) -> _Asked | None:
    """What a request asks for; None when it makes no sense. partition: where the key doesn't say it."""
    try:
        body = await request.json()
        asked = _Asked(body["agent"], body["key"], body["dry_run"], body.get("capitals", False), body.get("partition"))
        encode_key(asked.key)  # half of a surrogate pair is a ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    kinds = (str, str, bool, bool, int | None)
    if not all(isinstance(value, kind) for value, kind in zip(asked, kinds, strict=True)):
        return None
    return asked if 0 < len(asked.key) <= KEY_CHARS_MAX and "\0" not in asked.key else None


def may_not_erase(settings: Settings, authorization: str) -> tuple[int, str] | None:
    """Status and reason of the refusal; None when the request has the worker's token. There is no way without one."""
    if not settings.token:
        return 403, "erasing needs a token: set HARDPARTS_WEB_TOKEN at the worker"
    if shows(authorization, settings.token):
        return None
    return 401, "erasing needs the worker's token: send Authorization: Bearer TOKEN"


@dataclass(slots=True)
class Erasure:
    """One key in one unit. rows: table → rows that were the key's. sql: the same of the read model."""

    app: "App"
    unit: Unit
    key: str
    dry_run: bool
    rows: Counter[str] = field(default_factory=Counter)
    sql: dict[str, int] = field(default_factory=dict)

    async def run(self, deadline: float) -> None:
        """Wait until the unit has caught up, then have it done between two batches; NotNow when that takes longer."""
        await self._caught_up(deadline)
        done = self.unit.errands.ask(self._errand)
        await asyncio.wait([done], timeout=max(deadline - time.monotonic(), 0))
        if not done.done():
            done.cancel()
            raise NotNow(f"not done within {WITHIN_S:.0f} s{self._blocked()}")
        if done.cancelled():
            raise NotNow("the unit went to another worker")
        done.result()

    async def _caught_up(self, deadline: float) -> None:
        """What the sources hold now is finished: it may be the key's, and would bring its rows back."""
        sources = [TP(topic.name, self.unit.partition) for topic in self.unit.agent.sources]
        before = dict(self.unit.positions)
        try:
            ends = await self._ends(sources)
            if gone_back := [f"{tp.topic}[{tp.partition}]" for tp, end in ends.items() if end < before[tp.topic]]:
                raise NotNow(f"records that were read are gone from {', '.join(gone_back)}: others may stand there")
            while True:
                positions = self.unit.positions
                unread = [f"{tp.topic}[{tp.partition}]" for tp, end in ends.items() if positions[tp.topic] < end]
                if not unread:
                    return
                if time.monotonic() > deadline or self.unit.head.blocked:
                    raise NotNow(f"not caught up with {', '.join(unread)}{self._blocked()}")
                await asyncio.sleep(LOOK_EVERY_S)
        except HardpartsError:
            raise
        except Exception as error:  # whatever the client raises while the broker is away
            raise NotNow(f"the broker doesn't say how far the sources go: {type(error).__name__}: {error}") from error

    async def _ends(self, sources: list[TP]) -> dict[TP, int]:
        """The ends of the logs, what isn't committed yet included: behind an open transaction a record may wait."""
        bootstrap, security = self.app.context.bootstrap, self.app.context.security
        where = {tp: TopicPartition(tp.topic, tp.partition) for tp in sources}
        async with (
            asyncio.timeout(ENDS_WITHIN_S),
            AIOKafkaConsumer(bootstrap_servers=bootstrap, **security) as consumer,
        ):
            found = await consumer.end_offsets(list(where.values()))
        return {tp: found[where[tp]] for tp in sources}

    def _blocked(self) -> str:
        blocked = self.unit.head.blocked
        return "" if blocked is None else f": blocked ({blocked.reason})"

    async def _errand(self) -> None:
        if not self.dry_run:
            await self._committed()
        if self.app.read_model is not None:  # first: while the database is away, nothing is erased
            columns = {topic.key for topic in self.app.catalogue if topic.key is not None}
            self.sql = await self.app.context.database.erase(columns, self.key, dry_run=self.dry_run)
        for table, (row, prefix) in of_key(self.unit.agent, self.key).items():
            self.rows[table] += await self._erase_row(row) if table != MARKS_TABLE else 0
            await self._erase_under(table, prefix)

    async def _committed(self) -> None:
        """Where the unit is: a restart from before that would find no marks of what it reads again.

        The changelog says it already; a worker of an older version goes by the group. With exactly_once each batch's
        transaction has committed it.
        """
        if self.app.settings.exactly_once:
            return
        consumer = cast(Any, self.app.consumer)
        await consumer.maybe_wait_for_commit_to_finish()
        await consumer.force_commit()
        mine = {TP(topic, self.unit.partition) for topic in self.unit.positions}
        if mine & self.app.units.uncommitted().keys():
            raise NotNow("the group's offsets could not be committed")

    async def _erase_row(self, row: bytes) -> int:
        if self.unit.store.get(row) is None:
            return 0
        await self._write([[(row, None)]])
        return 1

    async def _erase_under(self, table: str, prefix: bytes) -> None:
        """Every row that begins so, in slices; a mark in one record batch with its message's claims."""
        store, views, start = self.unit.store, self.unit.agent.views, prefix
        while found := list(islice(store.scan(prefix, start), SLICE_ROWS)):
            events: list[list[Row]] = []
            for row, _ in found:
                rows: list[Row] = [(row, None)]
                for name, claim in claims_of(row, views) if table == MARKS_TABLE else ():
                    if store.get(claim) is not None:
                        rows.append((claim, None))
                        self.rows[name] += 1
                events.append(rows)
            await self._write(events)
            self.rows[table] += len(found)
            start = found[-1][0] + b"\0"

    async def _write(self, events: list[list[Row]]) -> None:
        if self.dry_run:
            await asyncio.sleep(0)
        else:
            await self.unit.record_rows(events)


def _problem(status: int, message: str, **more: Any) -> http.Response:
    return http.json_response({"error": message, **more}, status=status, dumps=json.dumps)
