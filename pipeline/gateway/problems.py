"""Every answer that isn't a yes has one shape: `{"error": text, "name": what stays the same, …}`."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

log = logging.getLogger("hardparts.gateway")

RETRY_AFTER_S = 5
REFUSED_SHOWN_MAX = 20
"""Judging a bad event takes up to half a millisecond: a list with more of them isn't read to its end."""

NAMES = {401: "unauthorized", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def problem(status: int, name: str, error: str, **more: Any) -> web.Response:
    """An answer of that shape."""
    answer = web.json_response({"error": error, "name": name, **more}, status=status)
    if status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    elif status == 503:
        answer.headers["Retry-After"] = str(RETRY_AFTER_S)
    return answer


@web.middleware
async def one_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What aiohttp itself answers (no such page, another method), and a bug of ours, in the same shape."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        answer = problem(error.status, NAMES.get(error.status, f"http_{error.status}"), error.reason)
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except Exception as error:
        log.exception("%s %s failed", request.method, request.rel_url.raw_path)  # as it came: no line breaks
        return problem(500, "internal", f"a fault of the gateway's own: {type(error).__name__}")
