"""The undelivered log over HTTP: it shows and sends users' data, so only to whoever may send events."""

from collections.abc import Callable

from aiohttp import web

from pipeline.gateway.problems import problem
from pipeline.gateway.undelivered import UndeliveredLog, shown
from pipeline.producer import ProducerError

LISTED_MAX = 1_000
REPLAYED_MAX = 100


class UndeliveredPages:
    """The handlers. refusal: the answer for who may not ask."""

    def __init__(self, log: UndeliveredLog, refusal: Callable[[web.Request], web.Response | None]) -> None:
        self._log, self._refusal = log, refusal

    async def listed(self, request: web.Request) -> web.Response:
        """`?limit=100&after=ID`: the next ones."""
        if (refused := self._refusal(request)) is not None:
            return refused
        limit = _number(request, "limit", 100)
        if limit is None or not 1 <= limit <= LISTED_MAX:
            return problem(400, "bad_request", f"limit is a number from 1 to {LISTED_MAX}")
        try:
            found = await self._log.listed(limit, request.query.get("after", ""))
        except ProducerError as error:
            return problem(503, error.name, str(error))
        return web.json_response({"undelivered": [shown(one) for one in found]})

    async def replay(self, request: web.Request) -> web.Response:
        """Send again up to 100 that were refused before now, or `?until_ms=N`; `more`: call again with its until_ms."""
        if (refused := self._refusal(request)) is not None:
            return refused
        until_ms = _number(request, "until_ms", None)
        if until_ms is None and "until_ms" in request.query:
            return problem(400, "bad_request", "until_ms is a time in milliseconds since the epoch")
        try:
            done = await self._log.replay(until_ms, REPLAYED_MAX)
        except ProducerError as error:
            return problem(503, error.name, f"not all were sent again, none is lost: {error}")
        return web.json_response(done._asdict())

    async def discard(self, request: web.Request) -> web.Response:
        """Forget one message for good."""
        if (refused := self._refusal(request)) is not None:
            return refused
        id_ = request.match_info["id"]
        try:
            if not await self._log.discard(id_):
                return problem(404, "not_found", f"no undelivered message {id_[:400]!r}")
        except ProducerError as error:
            return problem(503, error.name, str(error))
        return web.json_response({"discarded": id_})


def _number(request: web.Request, name: str, default: int | None) -> int | None:
    given = request.query.get(name)
    if given is None:
        return default
    return int(given) if given.isascii() and given.isdigit() and len(given) < 16 else None
