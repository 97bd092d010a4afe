"""The embedded broker as a subprocess that ends when its owner ends."""

import asyncio
import os
import selectors
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pipeline.broker.binary import broker_binary

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
EXIT_PORT_TAKEN = 3
EXIT_DATA_LOCKED = 4
READY = "ready "


class BrokerStartError(RuntimeError):
    """The broker did not come up; `exit_code` is the program's (EXIT_PORT_TAKEN, …), None if it hung."""

    def __init__(self, message: str, exit_code: int | None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class EmbeddedBroker:
    """A broker on loopback: `with EmbeddedBroker() as broker: ... broker.url`, or `async with`.

    `data` is the directory that keeps topics and offsets (None: memory only, gone at stop), `port` the first broker's
    port (0: a free one). After `stop()` or `kill()`, `start()` brings it back on the same ports with the same data.
    The broker's program exits by itself when this process dies. `cluster_id`: "" is the data directory's own, which is
    made once and kept there; in memory it is another one at each start, as what an earlier one had is gone.
    """

    def __init__(self, *, data: Path | None = None, port: int = 0, brokers: int = 1, cluster_id: str = "") -> None:
        self._data = data
        self._port = port
        self._brokers = brokers
        self._cluster_id = cluster_id
        self._addresses: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """`kafka://host:port`, as HARDPARTS_BROKER takes it; several brokers are separated by commas."""
        return f"kafka://{self.bootstrap}"

    @property
    def bootstrap(self) -> str:
        """`host:port[,host:port]`, as Kafka clients take it."""
        if not self._addresses:
            message = "the broker was never started"
            raise RuntimeError(message)
        return ",".join(self._addresses)

    @property
    def port(self) -> int:
        """Port of the first broker."""
        return int(self.bootstrap.split(",")[0].rsplit(":", 1)[1])

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Return once the broker answers; BrokerStartError, BrokerUnavailableError if it can't."""
        if self.running:
            return
        self._release()
        with tempfile.TemporaryFile("w+") as errors:
            # A session of its own: Ctrl-C in the terminal stops the owner, which then stops the broker in good order.
            process = subprocess.Popen(
                self._command(),
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
            self._process = process
            assert process.stdout
            try:
                line = _read_line(process.stdout, START_TIMEOUT_S)
                if not line.startswith(READY):
                    raise self._start_error(errors)
            except BaseException:
                self.kill()
                raise
        self._addresses = line.removeprefix(READY).strip().removeprefix("kafka://").split(",")

    def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop cleanly (SIGTERM); killed when it takes longer than `timeout_s`."""
        self._end(signal.SIGTERM, timeout_s)

    def kill(self) -> None:
        """Stop without any warning (SIGKILL), as a crash would."""
        self._end(signal.SIGKILL, STOP_TIMEOUT_S)

    def wait(self, timeout_s: float) -> int | None:
        """Wait until the broker ends by itself; its exit code, None when it goes on after `timeout_s`."""
        if self._process is None:
            message = "the broker was never started"
            raise RuntimeError(message)
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def _command(self) -> list[str]:
        command = [
            str(broker_binary()),
            "-parent-stdin",
            f"-brokers={self._brokers}",
        ]
        if self._cluster_id:
            command.append(f"-cluster-id={self._cluster_id}")
        if self._addresses:  # a restart: clients know these
            command.append("-ports=" + ",".join(address.rsplit(":", 1)[1] for address in self._addresses))
        else:
            command.append(f"-port={self._port}")
        if self._data is not None:
            command.append(f"-data={self._data}")
        return command

    def _start_error(self, errors: IO[str]) -> BrokerStartError:
        assert self._process
        try:
            code: int | None = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            code = None
        errors.seek(0)
        said = errors.read().strip() or "it said nothing"
        if code == EXIT_PORT_TAKEN:
            port = self._port or self.bootstrap
            message = f"port {port} is taken: stop what listens on it, or choose another (--port) ({said})"
        elif code is None:
            message = f"the embedded broker was not ready within {START_TIMEOUT_S:.0f} s: {said}"
        else:
            message = said
        return BrokerStartError(message, code)

    def _end(self, how: signal.Signals, timeout_s: float) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._release()

    def _release(self) -> None:
        if self._process is None:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._process = None


def _read_line(pipe: IO[str], timeout_s: float) -> str:
    """One line, or what came of it within the time; empty at the end of the file."""
    deadline, taken = time.monotonic() + timeout_s, b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not taken.endswith(b"\n") and selector.select(max(0.0, deadline - time.monotonic())):
            chunk = os.read(pipe.fileno(), 4096)
            if not chunk:
                break
            taken += chunk
    return taken.decode()
