"""The gateway's pages: events in; health, metrics, the OpenAPI document and the undelivered log out."""

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from pipeline.gateway.custody import Custody
from pipeline.gateway.door import Door, Malformed, Taken, Turned, split
from pipeline.gateway.metrics import GatewayMetrics
from pipeline.gateway.openapi import document
from pipeline.gateway.problems import REFUSED_SHOWN_MAX, one_shape, problem
from pipeline.gateway.undelivered import UndeliveredLog
from pipeline.gateway.undelivered_pages import UndeliveredPages
from pipeline.producer import ProducerError, SpillUnusable
from pipeline.producer.message import NO_HEADERS, Headers
from pipeline.runtime.identity import Identity, tell
from pipeline.runtime.security import is_loopback
from pipeline.runtime.settings import Settings
from pipeline.runtime.token import HEADER, shows

SLICE = 200
"""So many events of a list are judged before others get their turn on the event loop."""
EVENTS_MAX = 20_000
"""A list is taken as a whole, so it must fit into what may wait for the disk together; so must the largest body."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Pages:
    """The handlers. stopping: set when no more requests are wanted."""

    def __init__(
        self, settings: Settings, doors: Mapping[str, Door], custody: Custody, metrics: GatewayMetrics
    ) -> None:
        self._doors, self._custody, self._metrics = doors, custody, metrics
        self._body_bytes_max = settings.gateway_body_bytes_max
        self._token, self._identity = settings.token, Identity(settings.app_id)
        self._document = document(doors, with_token=bool(self._token), body_bytes_max=self._body_bytes_max)
        self.stopping = False

    def application(self, log: UndeliveredLog) -> web.Application:
        """The aiohttp application with every route."""
        app = web.Application(middlewares=[one_shape], client_max_size=self._body_bytes_max)
        kept = UndeliveredPages(log, self.refusal)
        tell(app, lambda: self._identity)
        app.router.add_post("/events/{topic}", self.events)
        app.router.add_get("/health/live", self.live)
        app.router.add_get("/health/ready", self.ready)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/openapi.json", self.openapi)
        app.router.add_get("/undelivered", kept.listed)
        app.router.add_post("/undelivered/replay", kept.replay)
        app.router.add_delete("/undelivered/{id}", kept.discard)
        return app

    def refusal(self, request: web.Request) -> web.Response | None:
        """401 for whoever hasn't the token; 403 without one for a page of some website in somebody's browser here."""
        if self._token:
            if shows(request.headers.get(HEADER, ""), self._token):
                return None
            return problem(401, "unauthorized", "the gateway has a token: send Authorization: Bearer TOKEN")
        if "Origin" in request.headers or not is_loopback(request.url.host or ""):
            why = "without a token only programs here that call this machine localhost may ask: set HARDPARTS_WEB_TOKEN"
            return problem(403, "forbidden", why)
        return None

    async def events(self, request: web.Request) -> web.Response:
        """202 once every event is in custody."""
        began, topic = time.monotonic(), request.match_info["topic"]
        door = self._doors.get(topic)
        status = 500  # a bug of ours; `one_shape` tells
        try:
            answer = self.refusal(request) or await self._enter(request, topic, door)
            status = answer.status
        finally:
            self._metrics.requests.labels(topic if door is not None else "", str(status)).inc()
        if status == 202:
            self._metrics.accept.observe(time.monotonic() - began)
        return answer

    async def _enter(self, request: web.Request, topic: str, door: Door | None) -> web.Response:
        if door is None:
            names = sorted(self._doors)
            return problem(404, "unknown_topic", f"no topic {topic[:249]!r} takes events", topics=names)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            return problem(415, "encoded", "a body is taken as it is: send it without Content-Encoding")
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return problem(413, "too_large", f"a body has at most {self._body_bytes_max} bytes")
        except (ConnectionError, web.RequestPayloadError):  # nobody reads this, or a proxy that cut it off
            return problem(400, "cut_off", "the body ended before its end")
        judged = await self._judge(door, body)
        if isinstance(judged, web.Response):
            return judged
        try:
            await self._custody.take(door.topic.name, judged, _trace(request))
        except ProducerError as error:
            return problem(503, error.name, f"not in custody, send it again later: {error}")
        self._metrics.events.labels(door.topic.name).inc(len(judged))
        return web.json_response({"accepted": len(judged)}, status=202)

    async def _judge(self, door: Door, body: bytes) -> list[Taken] | web.Response:
        """Every event of the body, or the answer that names those that may not pass."""
        try:
            events = split(body)
        except Malformed as error:
            return problem(422, "refused", "the body is no list of events", events=[_row(0, _malformed(error))])
        if len(events) > EVENTS_MAX:
            return problem(413, "too_large", f"a list has at most {EVENTS_MAX} events, not {len(events)}")
        taken: list[Taken] = []
        refused: list[tuple[int, Turned]] = []
        for number, raw in enumerate(events):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            judged = door.judge(raw)
            if isinstance(judged, Taken):
                taken.append(judged)
                continue
            refused.append((number, judged))
            if len(refused) == REFUSED_SHOWN_MAX:
                break
        if not refused:
            return taken
        rows = [_row(number, turned) for number, turned in refused]
        first = f"event {refused[0][0]}: {refused[0][1].explain[0]}"
        large = all(turned.kind == "TooLarge" for _, turned in refused)
        return problem(413 if large else 422, "too_large" if large else "refused", first, events=rows)

    async def live(self, _: web.Request) -> web.Response:
        """200 as long as the event loop answers."""
        return web.json_response({"live": True})

    async def ready(self, _: web.Request) -> web.Response:
        """200 while custody can be taken; Kafka may be unavailable, or another cluster in its place (`kafka`)."""
        load, limits = self._custody.load(), self._custody.limits
        custody = {
            "messages": load.messages, "disk_messages": load.disk_messages, "disk_bytes": load.disk_bytes,
            "messages_max": limits.disk_messages, "bytes_max": limits.disk_bytes,
        }  # fmt: skip
        why = self._custody.refusal()
        stranger = self._custody.producer.other_cluster()
        kafka = {} if stranger is None else {"kafka": str(stranger)}
        if why is None and not self.stopping:
            return web.json_response({"ready": True, "custody": custody, **kafka})
        more: dict[str, Any] = {"ready": False, "custody": custody, **kafka}
        if isinstance(why, SpillUnusable):
            more |= {"path": str(why.path), "errno": why.errno}
        return problem(503, why.name if why else "stopping", str(why or "the gateway is stopping"), **more)

    async def metrics(self, _: web.Request) -> web.Response:
        """Prometheus' text format."""
        load = self._custody.load()
        self._metrics.custody.labels("memory").set(max(load.messages - load.disk_messages, 0))
        self._metrics.custody.labels("disk").set(load.disk_messages)
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def openapi(self, _: web.Request) -> web.Response:
        """What this gateway takes and answers."""
        return web.json_response(self._document)


def _row(number: int, turned: Turned) -> dict[str, Any]:
    return {"index": number, "kind": turned.kind, "explain": list(turned.explain)}


def _malformed(error: Malformed) -> Turned:
    return Turned(type(error).error_class, (str(error),))


def _trace(request: web.Request) -> Headers:
    """The caller's trace goes on in the record; what isn't one is left out."""
    given = request.headers.get("traceparent")
    if given is None or not _TRACEPARENT.fullmatch(given):
        return NO_HEADERS
    return [("traceparent", given.encode())]
