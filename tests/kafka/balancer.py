"""One address in front of a cluster, as a balancer or a name has it; and what stands where a broker was."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

PIECE_BYTES = 1 << 16


class Balancer:
    """`async with Balancer(target) as balancer`: forwards connections to `target` (host:port), which may change."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._streams: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        """`host:port` at which it takes connections."""
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.close()
        for stream in list(self._streams):
            stream.transport.abort()

    def lead_to(self, target: str) -> None:
        """From now on; connections that are open are cut."""
        self.target = target
        for stream in list(self._streams):
            stream.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self.target.split(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        self._streams |= {writer, far_writer}
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        self._streams -= {writer, far_writer}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.transport.abort()


class Closed:
    """Takes connections at the port that a broker has left, closes each at once, and counts them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.knocks: list[float] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._close, "127.0.0.1", self._port, reuse_address=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.close()

    def since(self, monotonic_s: float) -> int:
        """How many have come since that time (time.monotonic)."""
        return sum(at >= monotonic_s for at in self.knocks)

    async def _close(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.knocks.append(time.monotonic())
        writer.transport.abort()
