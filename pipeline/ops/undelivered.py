"""The undelivered log from outside: a running gateway is asked, since it alone may open its spill."""

from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import aiohttp

from pipeline.core.errors import HardpartsError
from pipeline.runtime.identity import Identity, require_ours
from pipeline.runtime.settings import Settings
from pipeline.runtime.token import HEADER, bearer

PAGE = 500
TIMEOUT_S = 30.0


class GatewayRefuses(HardpartsError):
    """No gateway answers, or it says no; the message has the remedy."""


class Gateway:
    """A gateway's pages. url: None for that of the settings."""

    def __init__(self, settings: Settings, url: str | None) -> None:
        self._url = (url or f"http://{settings.web_host}:{settings.gateway_port}").rstrip("/")
        self._ours: Identity | None = Identity(settings.app_id)
        self._headers = {HEADER: bearer(settings.token)} if settings.token else {}

    async def undelivered(self) -> AsyncIterator[dict[str, Any]]:
        """Every message of the log, page by page."""
        after = ""
        while True:
            found = (await self._ask("GET", "/undelivered", limit=str(PAGE), after=after))["undelivered"]
            for one in found:
                yield one
            if len(found) < PAGE:
                return
            after = found[-1]["id"]

    async def replay(self, on_progress: Callable[[int], None]) -> int:
        """Send again what is in the log now; how many. What is refused again is in the log again, and not repeated."""
        until: dict[str, str] = {}  # the gateway's clock tells what is in the log now
        done = 0
        while True:
            answer = await self._ask("POST", "/undelivered/replay", **until)
            until = {"until_ms": str(answer["until_ms"])}
            done += int(answer["replayed"])
            on_progress(done)
            if not answer["more"]:
                return done

    async def discard(self, id_: str) -> None:
        """Forget one message for good."""
        await self._ask("DELETE", f"/undelivered/{quote(id_, safe='')}")

    async def _ask(self, method: str, path: str, **query: str) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session:
            try:
                if self._ours is not None:
                    async with session.get(f"{self._url}/health/live", allow_redirects=False) as answer:
                        require_ours(self._url, answer.headers, self._ours)
                    self._ours = None
                async with session.request(method, self._url + path, params=query, allow_redirects=False) as answer:
                    body = await answer.json(content_type=None)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                why = str(error) or type(error).__name__
                raise GatewayRefuses(
                    f"no gateway answers at {self._url} ({why}): start it (`hardparts gateway`) "
                    "or name it with --gateway URL"
                ) from error
            except ValueError as error:
                raise GatewayRefuses(f"{self._url} is no gateway: name one with --gateway URL") from error
        if answer.status == 200 and isinstance(body, dict):
            return body
        said = body.get("error", answer.status) if isinstance(body, dict) else answer.status
        same = " (here and there the same HARDPARTS_WEB_TOKEN)" if answer.status in (401, 403) else ""
        raise GatewayRefuses(f"{self._url}: {said}{same}")
