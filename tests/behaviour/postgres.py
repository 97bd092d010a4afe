"""A throw-away PostgreSQL: a cluster of its own in a fresh directory, on a free loopback port, never as root."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import psycopg

READY_WITHIN_S = 30.0


def program(name: str) -> str:
    """A server program on the PATH, or where Debian keeps it."""
    found = shutil.which(name)
    return found or str(max(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))


class Postgres:
    """`with Postgres() as server:`; `server.database()` makes a fresh one, `stop` and `start` are an outage."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="hardparts-postgres-"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            self._as_user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self._directory, "nobody", "nogroup")

    def __enter__(self) -> Self:
        data = str(self._directory / "data")
        command = [
            program("initdb"),
            "-D",
            data,
            "-U",
            "test",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
        ]
        done = subprocess.run(command, capture_output=True, cwd=self._directory, check=False, **self._as_user)
        assert done.returncode == 0, done.stderr.decode()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def start(self) -> None:
        """Start the server; returns when it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "30",
        }
        command = [program("postgres"), "-D", str(self._directory / "data"), "-p", str(self.port)]
        command += [f"--{name}={value}" for name, value in settings.items()]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._directory, **self._as_user)
        until = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise AssertionError((self._directory / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Cut all connections and stop."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(READY_WITHIN_S)
            self._process = None

    def connect(self, database: str) -> "psycopg.Connection[Any]":
        """A connection of the test's own."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="test", dbname=database, autocommit=True, connect_timeout=3
        )

    def database(self) -> str:
        """The name of a fresh database."""
        name = f"t{uuid4().hex}"
        with self.connect("postgres") as connection:
            connection.execute(f'create database "{name}"')
        return name

    def url(self, database: str) -> str:
        """For HARDPARTS_DATABASE_URL."""
        return f"postgresql+psycopg://test@127.0.0.1:{self.port}/{database}"
