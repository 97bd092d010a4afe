"""A bare aiohttp server: appends bodies to a file, flushes once for all that came meanwhile, answers 202."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import uvloop
from aiohttp import web


class Journal:
    """Appends, and flushes for all who wait in one go."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._some = asyncio.Event()

    async def append(self, body: bytes) -> None:
        """Return when it is on the disk."""
        flushed = asyncio.get_running_loop().create_future()
        self._waiting.append((body, flushed))
        self._some.set()
        await flushed

    async def rounds(self) -> None:
        """For ever."""
        while True:
            await self._some.wait()
            self._some.clear()
            batch, self._waiting = self._waiting, []
            os.write(self._file, b"".join(body for body, _ in batch))
            await asyncio.to_thread(os.fdatasync, self._file)
            for _, flushed in batch:
                flushed.set_result(None)


async def serve(path: Path) -> None:
    """Until it is killed; prints where it listens."""
    journal = Journal(path)
    rounds = asyncio.create_task(journal.rounds())

    async def post(request: web.Request) -> web.Response:
        await journal.append(await request.read())
        return web.json_response({"accepted": 1}, status=202)

    app = web.Application()
    app.router.add_post("/events/{topic}", post)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"ready http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await rounds


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
