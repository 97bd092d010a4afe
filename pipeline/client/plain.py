"""The client for applications without asyncio."""

import time
from collections.abc import Sequence
from typing import Self

import httpx
from prometheus_client import CollectorRegistry

from pipeline.client.call import Call, Event
from pipeline.client.gateway import DEADLINE_S
from pipeline.client.metrics import ClientMetrics
from pipeline.client.setting_up import name_of, options


class PlainGatewayClient:
    """`with PlainGatewayClient("http://gateway:6070", token=…) as gateway: gateway.send("user-events", event)`.

    The same as GatewayClient, but it waits. Threads may share one. An attempt's limit in time is that of each of its
    steps here: connect, send, the answer's beginning, its end.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        deadline_s: float = DEADLINE_S,
        registry: CollectorRegistry | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self._deadline_s = deadline_s
        self._metrics = ClientMetrics.of(registry)
        self._http = http or httpx.Client(**options(url, token))

    def send(self, topic: str, events: Event | Sequence[Event], *, deadline_s: float | None = None) -> None:
        """As GatewayClient.send."""
        ends = time.monotonic() + (self._deadline_s if deadline_s is None else deadline_s)
        call = Call(topic, events, ends=ends, on_error=self._metrics.counting(topic))
        with self._metrics.timed(topic):
            while (delay_s := self._attempt(call)) is not None:
                time.sleep(delay_s)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attempt(self, call: Call) -> float | None:
        """None: accepted; otherwise after how long to try again."""
        timeout_s = call.timeout_s(time.monotonic())
        until = time.monotonic() + timeout_s
        try:
            with self._http.stream("POST", call.path, content=call.body, timeout=timeout_s) as answer:
                content = _read(answer, until)
        except (httpx.RequestError, TimeoutError) as error:
            return call.failed(name_of(error), error, time.monotonic())
        return call.answered(answer.status_code, answer.headers, content, time.monotonic())


def _read(answer: httpx.Response, until: float) -> bytes:
    """Its body; httpx has a time limit for each piece of it only. Raises TimeoutError."""
    content = b""
    for piece in answer.iter_bytes():
        content += piece
        if time.monotonic() > until:
            raise TimeoutError("the answer doesn't end")
    return content
