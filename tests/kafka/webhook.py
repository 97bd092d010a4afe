"""A real HTTP server on loopback that keeps what alerts are posted to it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

AT_START = {"alert": "cluster", "state": "closed"}


class Webhook:
    """`with Webhook() as webhook`: `url` takes JSON posts, `received` holds their bodies in order of arrival, without
    the one that every worker sends when it starts; `starts` is the number of those.
    """

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.starts = 0
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if body.items() >= AT_START.items():
                    webhook.starts += 1
                else:
                    webhook.received.append(body)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing: the bodies are kept."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts"

    def states(self, name: str) -> list[str]:
        """`open` and `closed` of the alerts whose name begins with `name`, in order."""
        return [body["state"] for body in self.received if body["alert"].startswith(name)]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
