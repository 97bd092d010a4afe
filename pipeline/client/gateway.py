"""The client for asyncio."""

import asyncio
import time
from collections.abc import Sequence
from typing import Self

import httpx
from prometheus_client import CollectorRegistry

from pipeline.client.call import Call, Event
from pipeline.client.metrics import ClientMetrics
from pipeline.client.setting_up import name_of, options

DEADLINE_S = 15.0


class GatewayClient:
    """`async with GatewayClient("http://gateway:6070", token=…) as gateway: await gateway.send("user-events", event)`.

    deadline_s: how long a call tries. registry: where its metrics go, the process' own by default. http: instead of
    a client made here, with its base_url and headers; it is closed with this one.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        deadline_s: float = DEADLINE_S,
        registry: CollectorRegistry | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._deadline_s = deadline_s
        self._metrics = ClientMetrics.of(registry)
        self._http = http or httpx.AsyncClient(**options(url, token))

    async def send(self, topic: str, events: Event | Sequence[Event], *, deadline_s: float | None = None) -> None:
        """Return once the gateway answers for the event, or for all of a list. Raises GatewayError.

        No answer, and "not now", are tried again until the deadline; then NotAccepted. Events must have their msg_ids:
        what is tried again has the same, in this call and in the application's next one.
        """
        ends = time.monotonic() + (self._deadline_s if deadline_s is None else deadline_s)
        call = Call(topic, events, ends=ends, on_error=self._metrics.counting(topic))
        with self._metrics.timed(topic):
            while (delay_s := await self._attempt(call)) is not None:  # noqa: ASYNC110 - it says how long
                await asyncio.sleep(delay_s)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _attempt(self, call: Call) -> float | None:
        """None: accepted; otherwise after how long to try again."""
        timeout_s = call.timeout_s(time.monotonic())
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._http.post(call.path, content=call.body, timeout=timeout_s)
        except (httpx.RequestError, TimeoutError) as error:
            return call.failed(name_of(error), error, time.monotonic())
        return call.answered(answer.status_code, answer.headers, answer.content, time.monotonic())
