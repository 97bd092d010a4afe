"""A spill directory that can't be relied on: a start that fails, or not ready, with path and errno; nothing is lost."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import pytest

from pipeline.broker import EmbeddedBroker
from tests.behaviour.commandline import ROOT, CommandLine
from tests.gateway.as_nobody import NOBODY
from tests.gateway.gateways import TOPIC, Answer, Client, comment, msg_ids
from tests.kafka.waiting import until
from tests.oracle.truth import read


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(data=tmp_path / "broker") as running:
        yield running


@pytest.fixture
def cli(broker: EmbeddedBroker, tmp_path: Path) -> CommandLine:
    line = CommandLine(broker.url, tmp_path, partitions="2", gateway_port="0")
    line("topics", "apply").fine()
    return line


def owned(directory: Path) -> Path:
    """A new directory of nobody's."""
    directory.mkdir()
    if os.geteuid() == 0:
        os.chown(directory, NOBODY, NOBODY)
    return directory


def begun(command: list[str], environment: dict[str, str], log: IO[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)


@asynccontextmanager
async def as_nobody(cli: CommandLine, spill: Path) -> AsyncIterator[tuple[subprocess.Popen[str], str]]:
    """The process, and its first line: "" when it has ended. Its errors are in `log` beside the spill."""
    command = [sys.executable, "-m", "tests.gateway.as_nobody", "gateway"]
    environment = cli.environment | {"HARDPARTS_SPILL_DIR": str(spill)}
    with (spill.parent / "log").open("a") as log, begun(command, environment, log) as process:
        assert process.stdout is not None
        try:
            yield process, await asyncio.to_thread(process.stdout.readline)
        finally:
            process.kill()


@asynccontextmanager
async def gateway(cli: CommandLine, spill: Path) -> AsyncIterator[Client]:
    async with as_nobody(cli, spill) as (_, line):
        assert line.startswith("ready "), (spill.parent / "log").read_text()
        async with Client(line.removeprefix("ready ").strip()) as ask:
            yield ask


@pytest.mark.parametrize(("mode", "number"), [(None, errno.ENOENT), (0o555, errno.EACCES)], ids=["missing", "denied"])
async def test_a_directory_that_is_not_there_or_denied_ends_the_start(
    cli: CommandLine, open_place: Path, mode: int | None, number: int
) -> None:
    spill = open_place / "spill"
    if mode is not None:
        owned(spill).chmod(mode)
    async with as_nobody(cli, spill) as (process, line):
        assert line == ""
        assert await asyncio.to_thread(process.wait, 60) == 1
    (said,) = (open_place / "log").read_text().splitlines()
    assert str(spill) in said
    assert said.endswith(f"(errno {number})")


async def not_ready(ask: Client) -> Answer | None:
    answer = await ask("GET", "/health/ready")
    return answer if answer.status == 503 else None


async def ready(ask: Client) -> bool:
    return await not_ready(ask) is None


async def goes_bad_and_comes_back(
    cli: CommandLine, broker: EmbeddedBroker, spill: Path, number: int, *, break_it: Callable[[], None],
    mend_it: Callable[[], None],
) -> None:  # fmt: skip
    """Kafka is away meanwhile; what was accepted before, and after, arrives."""
    await asyncio.to_thread(broker.kill)
    async with gateway(cli, spill) as ask:
        accepted = [
            event["msg_id"] for event in [comment(n) for n in range(50)] if (await ask.post(event)).status == 202
        ]
        assert len(accepted) == 50
        break_it()
        try:
            answer = await until(lambda: not_ready(ask), 60, "not ready")
            assert answer.body["errno"] == number
            assert answer.body["path"].startswith(str(spill))
            refused = await ask.post(comment())
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) > 0
            assert f"errno {number}" in refused.body["error"]
            assert "ALERT opened custody" in (spill.parent / "log").read_text()
        finally:
            mend_it()
        await until(lambda: ready(ask), 60, "ready again")
        last = comment()
        assert (await ask.post(last)).status == 202
        await asyncio.to_thread(broker.start)

        async def empty() -> bool:
            return await ask.waiting() == 0

        await until(empty, 60, "custody is empty")
    logs = (await read(broker.bootstrap, [TOPIC]))[TOPIC]
    found = {id_ for records in logs.values() for id_ in msg_ids(record.value for record in records)}
    assert found >= {*accepted, last["msg_id"]}


async def test_denied_later_it_is_not_ready_until_it_is_allowed_again(
    cli: CommandLine, broker: EmbeddedBroker, open_place: Path
) -> None:
    spill = owned(open_place / "spill")
    await goes_bad_and_comes_back(
        cli, broker, spill, errno.EACCES, break_it=lambda: spill.chmod(0o555), mend_it=lambda: spill.chmod(0o755)
    )


Mount = Callable[[str], Path]


@pytest.fixture
def tmpfs(open_place: Path) -> Iterator[Mount]:
    """Mounts a small file system with these options."""
    where = open_place / "tmpfs"

    def mount(options: str) -> Path:
        where.mkdir(exist_ok=True)
        if os.geteuid() != 0 or not mounts("-t", "tmpfs", "-o", f"mode=0777,{options}", "tmpfs", str(where)):
            pytest.skip("a small tmpfs can't be mounted here: root is needed")
        return where

    yield mount
    while where.is_mount():
        unmount(where)


def mounts(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


def unmount(where: Path) -> None:
    subprocess.run(["umount", "-l", str(where)], check=True)


async def test_turned_read_only_later_it_is_not_ready_until_it_is_writable_again(
    cli: CommandLine, broker: EmbeddedBroker, tmpfs: Mount
) -> None:
    spill = tmpfs("size=400m")

    def read_only() -> None:  # on top: a file system with open files can't be turned itself
        assert mounts("--bind", str(spill), str(spill))
        assert mounts("-o", "remount,bind,ro", str(spill))

    await goes_bad_and_comes_back(cli, broker, spill, errno.EROFS, break_it=read_only, mend_it=lambda: unmount(spill))


async def test_full_it_is_not_ready_until_there_is_room(cli: CommandLine, broker: EmbeddedBroker, tmpfs: Mount) -> None:
    spill = tmpfs("size=400m")
    filler = spill / "somebody-elses"

    def fill() -> None:
        free = os.statvfs(spill).f_bavail * os.statvfs(spill).f_frsize
        with filler.open("wb") as file:
            file.truncate(0)
            for _ in range((free - (32 << 20)) >> 20):  # less than the reserve is left
                file.write(b"x" * (1 << 20))

    await goes_bad_and_comes_back(cli, broker, spill, errno.ENOSPC, break_it=fill, mend_it=filler.unlink)


async def test_full_or_read_only_at_the_start_it_does_not_start(cli: CommandLine, tmpfs: Mount) -> None:
    for options, number in (("size=1m", errno.ENOSPC), ("ro,size=400m", errno.EROFS)):
        spill = tmpfs(options)  # on top of the one before
        async with as_nobody(cli, spill) as (process, line):
            assert line == ""
            assert await asyncio.to_thread(process.wait, 60) == 1
        said = (spill.parent / "log").read_text().splitlines()[-1]
        assert str(spill) in said
        assert f"errno {number}" in said
