"""Writers commit, a relay moves their rows and is killed again and again; then topics and table are compared."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple
from uuid import NAMESPACE_OID, uuid5

from tests.behaviour.commandline import ROOT
from tests.kafka.waiting import until
from tests.oracle.truth import read
from tests.outbox.databases import TABLE, Database, ask, count
from tests.outbox.writers import KEYS, TOPICS, Writers, topic_of

THREADS = 4


class Figures(NamedTuple):
    """What a trial showed."""

    rows: int
    kills: int
    repeated: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.rows:,} rows in their topics, in order per key, none unmarked; {self.kills} SIGKILLs, "
            f"{self.repeated:,} sent twice, {self.seconds:.1f} s until the last was marked"
        )


class RelayProcess:
    """`hardparts outbox` as a process, its output in a file."""

    def __init__(self, database: Database, bootstrap: str, directory: Path, **settings: str) -> None:
        self.log = directory / "relay.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HARDPARTS_")}
        environment = inherited | {
            "HARDPARTS_BROKER": bootstrap,
            "HARDPARTS_OUTBOX_URL": database.url,
            "HARDPARTS_WEB_PORT": "0",
        }
        environment |= {f"HARDPARTS_{name.upper()}": value for name, value in settings.items()}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline", "outbox", "--loglevel", "info"],
                env=environment, stdout=log, stderr=log, cwd=ROOT,
            )  # fmt: skip

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.process.terminate()
        return self.process.wait(60)

    def said(self) -> str:
        """The end of its output."""
        return self.log.read_text()[-3000:]


async def trial(database: Database, bootstrap: str, directory: Path, *, rows: int, kills: int) -> Figures:
    """Run it, and fail unless every committed row is in its topic, in order per key, and marked."""
    writers = Writers(database, THREADS, rows, kills + 1)
    relay = RelayProcess(database, bootstrap, directory)
    began = time.monotonic()
    writers.start()
    try:
        for number in range(kills):
            marked = rows * (2 * number + 1) // (2 * kills + 2)  # in the middle of the part that is being written
            await asyncio.to_thread(_wait_until_marked, database, marked)
            relay.kill()
            writers.go_on()
            relay = RelayProcess(database, bootstrap, directory)
        await asyncio.to_thread(writers.join)
        await until(lambda: not count(database, "sent IS NULL"), 300, "every row is marked")
        seconds = time.monotonic() - began
        assert await asyncio.to_thread(relay.stop) == 0, relay.said()
    finally:
        relay.kill()
    assert count(database) == rows
    assert count(database, "failed IS NOT NULL") == 0
    return Figures(rows, kills, await _repeated(database, bootstrap, rows), seconds)


def _wait_until_marked(database: Database, rows: int) -> None:
    """Looks often, so that a kill comes while there is work."""
    until_s = time.monotonic() + 300
    connection = database.connect()
    query = f"SELECT count(*) FROM {TABLE} WHERE sent IS NOT NULL"
    while connection.execute(query).fetchone()[0] < rows:
        assert time.monotonic() < until_s, f"{rows} rows aren't marked"
        time.sleep(0.002)
    connection.close()


async def _repeated(database: Database, bootstrap: str, rows: int) -> int:
    """How many records are there more than once, all else being as it must be."""
    found: dict[str, list[int]] = defaultdict(list)
    records = 0
    for topic, partitions in (await read(bootstrap, list(TOPICS))).items():
        for log in partitions.values():
            for record in log:
                key, value = (record.key or b"").decode(), json.loads(record.value or b"")
                assert topic == topic_of(key)
                assert value["ghost"] is False, "a row of a transaction that was rolled back"
                assert value["msg_id"] == str(uuid5(NAMESPACE_OID, f"{key}/{value['n']}"))
                found[key].append(value["n"])
                records += 1
    committed = {str(key): n for key, n in ask(database, "SELECT key, n FROM counters")}
    assert len(committed) == KEYS
    assert sum(committed.values()) == rows
    for key, n in committed.items():
        assert list(dict.fromkeys(found[key])) == list(range(n)), (
            f"first occurrences of key {key}, in order, none missing"
        )
    return records - rows
