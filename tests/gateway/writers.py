"""Gateways as processes, and who writes to them until they are killed: what was accepted, and what arrived."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.behaviour.commandline import CommandLine
from tests.gateway.gateways import TOPIC, Client, comment
from tests.oracle.truth import read

USERS = 10


def log_of(cli: CommandLine) -> Path:
    return Path(cli.environment["HARDPARTS_DATA_DIR"]).parent / "log"


@asynccontextmanager
async def running(cli: CommandLine, **settings: str) -> AsyncIterator[tuple[subprocess.Popen[str], Client]]:
    log = log_of(cli)
    with log.open("a") as stderr, cli.running("gateway", stderr=stderr, **settings) as process:  # a pipe would fill up
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        assert line.startswith("ready http://127.0.0.1:"), log.read_text()
        async with Client(line.removeprefix("ready ").strip()) as ask:
            yield process, ask


class Writers:
    """A writer a user, one event after another, each sent until it is accepted; what was, in order."""

    def __init__(self) -> None:
        self.accepted: dict[int, list[str]] = {user: [] for user in range(USERS)}
        self.stopped = False

    @property
    def count(self) -> int:
        return sum(map(len, self.accepted.values()))

    async def write(self, ask: Client) -> None:
        """Until `stopped`, or the gateway is gone; each user's last event is sent again then, by the next call."""
        await asyncio.gather(*(self._write(ask, user) for user in self.accepted))

    async def _write(self, ask: Client, user: int) -> None:
        while not self.stopped:
            event = comment(user, msg=str(len(self.accepted[user])))
            try:
                answer = await ask.post(event)
            except aiohttp.ClientError:
                return
            assert answer.status == 202, answer
            self.accepted[user].append(event["msg_id"])


async def arrived(bootstrap: str) -> dict[int, list[str]]:
    """user → msg_ids in the order of their first occurrences; every record under its user's key."""
    found: dict[int, list[str]] = {user: [] for user in range(USERS)}
    for records in (await read(bootstrap, [TOPIC]))[TOPIC].values():
        for record in records:
            event = json.loads(record.value or b"")
            user = event["data"]["user_id"]
            assert record.key == str(user).encode()
            found[user].append(event["msg_id"])
    return {user: list(dict.fromkeys(ids)) for user, ids in found.items()}


def missing(writers: Writers, found: dict[int, list[str]]) -> set[str]:
    return {id_ for user, ids in writers.accepted.items() for id_ in set(ids) - set(found[user])}


def accepted_in_order(writers: Writers, found: dict[int, list[str]]) -> bool:
    """Others may stand in between: of a request that was taken, and whose answer the kill took."""
    return all([id_ for id_ in found[user] if id_ in set(ids)] == ids for user, ids in writers.accepted.items())


async def empty(ask: Client) -> bool:
    return await ask.waiting() == 0
