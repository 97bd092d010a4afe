"""State views from outside a worker: folded from the changelog, or one row asked from the worker that owns it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

import aiohttp

from pipeline.core.agent import Definition
from pipeline.core.errors import HardpartsError, Misconfigured
from pipeline.core.views import View
from pipeline.kafka.memory import ClusterMemory
from pipeline.ops.reading import read_to_end
from pipeline.runtime.app import App
from pipeline.runtime.identity import Identity, require_ours
from pipeline.runtime.instance import first_slot
from pipeline.runtime.settings import Settings
from pipeline.runtime.token import HEADER, bearer
from pipeline.runtime.web import find_view

WORKER_TIMEOUT_S = 8.0


class NoSuchRow(HardpartsError):
    """The worker answered, but not with a row."""


def declared_view(app: App, name: str) -> tuple[Definition, View]:
    """The view called `name`, or `agent/name`, and the agent that keeps it; Misconfigured lists what there is."""
    declared = find_view(app.declared, name)
    if declared is None:
        known = ", ".join(sorted(view.name for definition in app.declared for view in definition.views)) or "none"
        raise Misconfigured(f"no table {name!r}: the application has {known}")
    return declared


async def fold(app: App, name: str, on_progress: Callable[[int, int], None]) -> Iterator[tuple[str, Any]]:
    """Rows (key, value) of a view as its changelog has them now, in key order."""
    definition, view = declared_view(app, name)
    prefix, rows = view.prefix, dict[bytes, bytes]()
    async for record in read_to_end(app.settings, app.changelog(definition), on_progress=on_progress):
        key = record.key
        if key is None or not key.startswith(prefix):
            continue
        if record.value is None:
            rows.pop(key, None)
        else:
            rows[key] = record.value
    return ((view.show_key(row), view.show_value(rows[row])) for row in sorted(rows))


async def ask_worker(
    worker: str, table: str, key: str, token: str = "", expected: Identity | None = None
) -> tuple[dict[str, Any], bool]:
    """{"key", "value", "partition"} from the worker at this URL; NoSuchRow says what it answered instead.

    Second: whether it said whose it is; AnotherAnswers when that isn't `expected`.
    """
    headers = {HEADER: bearer(token)} if token else {}
    url = f"{worker.rstrip('/')}/state/{quote(table, safe='')}/{quote(key, safe='/')}"
    async with _session() as session:
        try:
            async with session.get(url, headers=headers, allow_redirects=False) as answer:
                told = expected is None or require_ours(worker, answer.headers, expected)
                body = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError) as error:  # the last: no name of a host
            why = str(error) or type(error).__name__
            raise NoSuchRow(
                f"no worker answers at {worker} ({why}): start one (`hardparts worker`) or name it with --worker URL"
            ) from error
        except ValueError as error:
            raise NoSuchRow(
                f"{worker} answers {answer.status}, but is no worker: name one with --worker URL"
            ) from error
    if answer.status == 200:
        return dict(body), told
    raise NoSuchRow(_explained(answer.status, body if isinstance(body, dict) else {}, worker, table, key))


def expected_of(settings: Settings) -> Identity:
    """Whose worker is meant, as far as that is known without Kafka: the cluster is the one that the instance keeps."""
    memory = ClusterMemory(kept_in=first_slot(settings).cluster_file)
    with suppress(OSError):
        memory.recall()
    return Identity(settings.app_id, memory.cluster_id or "")


def _explained(status: int, body: dict[str, Any], worker: str, table: str, key: str) -> str:
    said = str(body.get("error", f"status {status}"))
    if status == 421:
        return f"{worker}: {said}: ask the worker that owns partition {body.get('partition')} (--worker URL)"
    if status == 503:
        return f"{worker}: {said}: try again when its /health/ready is 200"
    if status in (401, 403):
        return f"{worker}: {said} (here and there the same HARDPARTS_WEB_TOKEN)"
    if status == 404:
        return f"{worker}: {said}"
    return f"{worker} answers {status} for {table} {key}: {said}"


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WORKER_TIMEOUT_S)) as session:
        yield session
    await asyncio.sleep(0)  # lets the connector's transports close before the loop does
