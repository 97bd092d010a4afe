"""HTTP of a worker, on Faust's web server: health, metrics, and one row of state from the unit that owns it.

It runs in the worker's own event loop: a loop that hangs doesn't answer, which is what the liveness probe is for.
"""

import asyncio
import errno
import logging
import socket
from typing import TYPE_CHECKING, Any

from aiohttp import web as http
from prometheus_client import CONTENT_TYPE_LATEST

from pipeline.core.agent import Definition
from pipeline.core.errors import Misconfigured
from pipeline.core.routing import canonical, encode_key, partition_of
from pipeline.core.views import Claims, View
from pipeline.runtime.lag import Lag
from pipeline.runtime.security import is_loopback
from pipeline.runtime.settings import Settings
from pipeline.runtime.store import StoreFailed
from pipeline.runtime.token import HEADER, shows
from pipeline.runtime.unit import Unit

if TYPE_CHECKING:
    from pipeline.runtime.app import App

log = logging.getLogger("hardparts.web")

LOOP_ANSWERS_WITHIN_S = 5.0


def install(app: "App", router: http.UrlDispatcher) -> None:
    """Add the worker's pages."""
    pages = Pages(app)
    router.add_get("/health/live", pages.live)
    router.add_get("/health/ready", pages.ready)
    router.add_get("/metrics", pages.metrics)
    router.add_get("/state/{table}/{key:.+}", pages.state)


def listening_port(settings: Settings) -> int:
    """The port of the settings; for 0 one that is free now, since Faust refuses to leave the choice to the system."""
    if settings.web_port:
        return settings.web_port
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def require_free_port(settings: Settings) -> None:
    """Misconfigured when the web server could not listen where the settings say."""
    if settings.web_port == 0:
        return
    where = f"{settings.web_host}:{settings.web_port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.web_host, settings.web_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Misconfigured(
                f"web port {settings.web_port} is taken on {settings.web_host}: stop what listens there, "
                "or choose another (--web-port or HARDPARTS_WEB_PORT; 0 takes a free one)"
            ) from None
        raise Misconfigured(
            f"can't listen on {where} ({error.strerror or error}): set HARDPARTS_WEB_HOST and HARDPARTS_WEB_PORT"
        ) from None


class Pages:
    """The handlers of one worker's pages."""

    def __init__(self, app: "App") -> None:
        self._app = app
        self._lag = Lag(app, app.context.now_ms)

    async def live(self, _: http.Request) -> http.Response:
        """200 unless this process hangs or is about to end. A worker that waits for a dependency is alive."""
        error = self._app.fatal_error
        if error is not None:
            return http.json_response({"live": False, "reason": f"{type(error).__name__}: {error}"}, status=503)
        if not await self._consumer_answers():
            reason = f"the consumer's thread hasn't answered for {LOOP_ANSWERS_WITHIN_S:.0f} s"
            return http.json_response({"live": False, "reason": reason}, status=503)
        return http.json_response({"live": True})

    async def ready(self, _: http.Request) -> http.Response:
        """200 once the takeover is done: state is recovered, events are handled. 503 before, in a rebalance, and while
        Kafka doesn't answer.
        """
        app = self._app
        partitions, trouble = app.ready_partitions, app.trouble
        if partitions is None:
            reason = "taking partitions over" + (f": {trouble[1]}" if trouble else "")
            return http.json_response({"ready": False, "reason": reason}, status=503)
        if app.watch is not None and (unanswered := app.watch.told()):
            return http.json_response({"ready": False, "reason": unanswered}, status=503)
        blocked = [head for unit in app.units if (head := _blocked(unit)) is not None]
        topics = [problem.about for problem in app.topic_changes.problems] if app.topic_changes is not None else []
        waits = {"trouble": trouble[1]} if trouble else {}  # a running unit whose producer can't be replaced
        return http.json_response(
            {"ready": True, "partitions": partitions, "blocked": blocked, "topics": topics, **waits}
        )

    async def metrics(self, _: http.Request) -> http.Response:
        """Prometheus' text format; gauges are brought up to date first."""
        app = self._app
        metrics = app.context.metrics
        for unit in app.units:
            unit.head.refresh()
        metrics.in_flight.set(app.context.demand.in_flight)
        await self._lag.refresh()
        return http.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def state(self, request: http.Request) -> http.Response:
        """One row of a view. 404: no such table, or no such key. 421: another worker has it. 503: not ready.

        It is users' data: with HARDPARTS_WEB_TOKEN set, only for who has it (401); without, only on loopback (403).
        """
        app = self._app
        if (
            refused := may_not_read_state(app.settings, request.headers.get(HEADER, ""), request.url.host or "")
        ) is not None:
            return refused
        table, key = request.match_info["table"], request.match_info["key"]
        declared = find_view(app.definitions, table)
        if declared is None:
            names = ", ".join(sorted(view.name for definition in app.definitions for view in definition.views))
            return _problem(404, f"no table {table}: there are {names}")
        if app.ready_partitions is None:
            return _problem(503, "not ready: taking partitions over")
        definition, view = declared
        if isinstance(view, Claims):  # stands under the msg_id alone, which says nothing about the partition
            units = [unit for unit in app.units if unit.agent.name == definition.name]
        else:
            asked = canonical(encode_key(key.split("/", 1)[0]))
            partition = partition_of(asked, self._count(definition), definition.partitioner)
            unit = app.units.get(definition.name, partition)
            if unit is None:
                here = ", ".join(map(str, app.ready_partitions)) or "none"
                return _problem(
                    421, f"partition {partition} of {table} is not here (here: {here})", partition=partition
                )
            units = [unit]
        row = view.row_of(key.lower())
        try:
            found = [(value, unit) for unit in units if unit.whole and (value := unit.store.get(row)) is not None]
        except StoreFailed as error:  # its unit meets it with the next record
            return _problem(503, f"the state of {definition.name} can't be read: {error}")
        if found:
            value, unit = found[0]
            shown = {"key": view.show_key(row), "value": view.show_value(value), "partition": unit.partition}
            return http.json_response(shown)
        if not all(unit.whole for unit in units):
            return _problem(503, f"the state of {definition.name} is taken over anew")
        return _problem(404, f"{table} has no {key}")

    def _count(self, definition: Definition) -> int:
        return self._app.context.partitions[definition.sources[0].name]

    async def _consumer_answers(self) -> bool:
        consumer: Any = self._app._consumer
        loop = getattr(getattr(consumer, "group", None), "thread_loop", None)
        if loop is None or not loop.is_running():
            return True  # not started yet, or stopping
        answered = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop)
        try:
            await asyncio.wait_for(asyncio.wrap_future(answered), LOOP_ANSWERS_WITHIN_S)
        except TimeoutError:
            return False
        return True


def may_not_read_state(settings: Settings, authorization: str, asked_host: str) -> http.Response | None:
    """The refusal for a request with this Authorization header; None when it may read state.

    asked_host: what the request calls this machine. A website whose name leads to this machine gets nothing out of a
    browser here.
    """
    if settings.token:
        if shows(authorization, settings.token):
            return None
        refused = _problem(401, "state is shown to who has the worker's token: send Authorization: Bearer TOKEN")
        refused.headers["WWW-Authenticate"] = "Bearer"
        return refused
    if is_loopback(settings.web_host) and is_loopback(asked_host):
        return None
    return _problem(403, "state leaves this machine only with a token: set HARDPARTS_WEB_TOKEN at the worker")


def find_view(definitions: list[Definition], name: str) -> tuple[Definition, View] | None:
    """The view called `name`, or `agent/name`, and the agent that keeps it; the first when several do."""
    for definition in definitions:
        for view in definition.views:
            if name in (view.name, f"{definition.name}/{view.name}"):
                return definition, view
    return None


def _blocked(unit: Unit) -> dict[str, Any] | None:
    blocked = unit.head.blocked
    if blocked is None:
        return None
    return {
        "agent": unit.agent.name, "topic": blocked.record.topic, "partition": unit.partition,
        "offset": blocked.record.offset, "reason": blocked.reason, "seconds": round(unit.head.seconds, 1),
    }  # fmt: skip


def _problem(status: int, message: str, **more: Any) -> http.Response:
    return http.json_response({"error": message, **more}, status=status)
