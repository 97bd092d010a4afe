"""Worker processes: each with an instance, a port and a log of its own."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping
from pathlib import Path

import pipeline
from pipeline.core.errors import HardpartsError

HOME = Path(pipeline.__file__).parents[1]
"""Where `pipeline`, `tables` and `agents` are."""

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 10.0
TAIL_LINES = 12


class WorkerDied(HardpartsError):
    """A worker ended by itself, or never got ready; the message has the end of its log."""


class Worker:
    """One process; `partitions` are those it announced last, None until it is ready."""

    def __init__(self, name: str, log: Path) -> None:
        self.name, self.log = name, log
        self.partitions: list[int] | None = None
        self.agents: list[str] = []
        self.web = ""
        self.wanted = True
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def start(self, environment: Mapping[str, str], on_ready: Callable[["Worker"], None]) -> None:
        """Start it; `on_ready` is called after each takeover. Its instance is its name."""
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "pipeline.demo.leash", "worker", "--instance", self.name, "--web-port", "0",
                stdin=PIPE, stdout=PIPE, stderr=log, cwd=HOME, env=dict(environment),
                start_new_session=True,  # Ctrl-C reaches the demo, which stops its workers in good order
            )  # fmt: skip
        self._reading = asyncio.create_task(self._read(on_ready))

    async def ready(self) -> None:
        """Wait for its first takeover; WorkerDied."""
        assert self._reading
        waiting = asyncio.create_task(self._ready.wait())
        await asyncio.wait([waiting, self._reading], timeout=READY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not self._ready.is_set():
            self.require_alive()
            raise WorkerDied(f"{self.name} was not ready within {READY_WITHIN_S:.0f} s{self._tail()}")

    def require_alive(self) -> None:
        """WorkerDied when it ended although nobody stopped it."""
        if self._process is not None and self.wanted and not self.running:
            code = self._process.returncode
            raise WorkerDied(f"{self.name} ended by itself, exit code {code}{self._tail()}")

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None and not self._ended()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process
        return self._process.pid

    async def kill(self) -> None:
        """SIGKILL: no goodbye, as in a crash."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when it takes longer than STOP_WITHIN_S."""
        await self._end(signal.SIGTERM)

    async def _end(self, how: signal.Signals) -> None:
        self.wanted = False
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.send_signal(how)
            try:
                await asyncio.wait_for(self._process.wait(), STOP_WITHIN_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        if self._reading:
            await self._reading

    async def _read(self, on_ready: Callable[["Worker"], None]) -> None:
        assert self._process
        assert self._process.stdout
        async for line in self._process.stdout:
            words = dict(word.split("=", 1) for word in line.decode().split() if "=" in word)
            if line.startswith(b"ready ") and "partitions" in words:
                shown = words["partitions"]
                self.partitions = [] if shown == "none" else [int(number) for number in shown.split(",")]
                self.agents, self.web = words.get("agents", "").split(","), words.get("web", "")
                self._ready.set()
                on_ready(self)
        await self._process.wait()

    def _ended(self) -> bool:
        return self._reading is not None and self._reading.done()

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if self.log.exists() else []
        said = "".join(f"\n  | {line}" for line in lines) or " nothing"
        return f"; the end of its log {self.log}:{said}"


async def run_once(environment: Mapping[str, str], *arguments: str) -> str:
    """Run one `hardparts` command to its end: its output. WorkerDied with what it said when it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline", *arguments,
        stdin=DEVNULL, stdout=PIPE, stderr=PIPE, cwd=HOME, env=dict(environment), start_new_session=True,
    )  # fmt: skip
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        said = (err or out).decode(errors="replace").strip().splitlines()[-TAIL_LINES:]
        raise WorkerDied("\n  | ".join([f"hardparts {' '.join(arguments)} failed:", *said]))
    return out.decode()


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Ours without any HARDPARTS_ variable but `settings`: what is set for production must not leak into the demo."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HARDPARTS_")}
    return inherited | {f"HARDPARTS_{name.upper()}": value for name, value in settings.items()}
