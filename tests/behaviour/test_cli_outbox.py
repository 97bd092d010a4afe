"""`hardparts outbox` and its commands, as processes."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from pipeline.broker import EmbeddedBroker
from tests.behaviour.commandline import CommandLine
from tests.outbox.databases import TABLE, SqliteDatabase, count, insert

WITHIN_S = 60


@pytest.fixture
def database(tmp_path: Path) -> SqliteDatabase:
    return SqliteDatabase(tmp_path)


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def cli(broker: EmbeddedBroker, database: SqliteDatabase, tmp_path: Path) -> CommandLine:
    return CommandLine(broker.url, tmp_path, outbox_url=database.url)


def until_settled(database: SqliteDatabase) -> None:
    until = time.monotonic() + WITHIN_S
    while count(database, "sent IS NULL AND failed IS NULL"):
        assert time.monotonic() < until, "not every row is settled"
        time.sleep(0.05)


def page(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_rows_are_relayed_shown_and_tried_again(cli: CommandLine, database: SqliteDatabase) -> None:
    cli("topics", "apply").fine()
    insert(database, *[("user-events", str(number), "{}") for number in range(20)], ("bad topic", "k\x1b[2J", "{}"))
    before = cli("outbox", "status", "--json")
    assert before.code == 0
    (line,) = before.rows
    assert (line["active"], line["unsent"], line["failed"]) == (False, 21, 0)
    assert [(topic["topic"], topic["unsent"]) for topic in line["topics"]] == [("bad topic", 1), ("user-events", 20)]

    with cli.running("outbox") as relay:
        assert relay.stdout
        url = relay.stdout.readline().removeprefix("ready web=").strip()
        until_settled(database)
        assert page(f"{url}/health/live") == (200, '{"live": true}')
        status, body = page(f"{url}/health/ready")
        assert (status, json.loads(body)) == (200, {"ready": True, "active": True, "held": {}})
        metrics = page(f"{url}/metrics")[1]
        assert 'hardparts_outbox_rows_total{outcome="sent"} 20.0' in metrics
        assert 'hardparts_outbox_rows_total{outcome="failed"} 1.0' in metrics
        assert "hardparts_outbox_active 1.0" in metrics

        shown = cli("outbox", "status")
        assert shown.code == 1, "failed rows are something to look at"
        assert shown.out.startswith(
            "relay: active\nunsent: 0 (oldest 0.0 s)\nfailed: 1\n  21  bad topic  key=k\\x1b[2J  attempts=1  "
        )
        listed = cli("outbox", "status", "--json").rows
        assert (listed[0]["active"], listed[1]["id"], listed[1]["attempts"]) == (True, 21, 1)

        with sqlite3.connect(database.path) as connection:
            connection.execute(f"UPDATE {TABLE} SET topic = 'team-events' WHERE id = 21")
        assert cli("outbox", "retry", "21").fine().out == "1 rows will be sent again\n"
        until_settled(database)
        assert cli("outbox", "status").fine().out.splitlines()[-1] == "failed: 0"
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(WITHIN_S) == 0
    assert count(database, "sent IS NOT NULL") == 21
    assert cli("outbox", "retry", "--all", "--json").fine().rows == [{"retried": 0}]


def test_failed_rows_are_shown_whatever_stands_in_them(cli: CommandLine, database: SqliteDatabase) -> None:
    with sqlite3.connect(database.path) as connection:
        broken = "CAST(x'7bff7d' AS TEXT)"
        connection.execute(f"INSERT INTO {TABLE} (topic, key, failed, failure) VALUES ({broken}, {broken}, 't', 'why')")
        connection.execute(f"INSERT INTO {TABLE} (topic, key) VALUES ({broken}, 'a')")
    shown = cli("outbox", "status", "--json")
    assert shown.code == 1
    waiting, failed = shown.rows
    assert (waiting["topics"][0]["topic"], failed["topic"], failed["key"]) == ("{\\xff}", "{\\xff}", "{\\xff}")
    assert "why" in cli("outbox", "status").out


def test_it_is_not_ready_while_the_database_is_away(cli: CommandLine, database: SqliteDatabase, tmp_path: Path) -> None:
    with cli.running("outbox") as relay:
        assert relay.stdout
        url = relay.stdout.readline().removeprefix("ready web=").strip()
        until = time.monotonic() + WITHIN_S
        while page(f"{url}/health/ready")[0] != 200:
            assert time.monotonic() < until
            time.sleep(0.05)
        with sqlite3.connect(database.path) as connection:
            connection.execute(f"ALTER TABLE {TABLE} RENAME TO elsewhere")
        while page(f"{url}/health/ready")[0] != 503:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert "no such table" in page(f"{url}/health/ready")[1]
        assert page(f"{url}/health/live")[0] == 200
        relay.send_signal(signal.SIGINT)
        assert relay.wait(WITHIN_S) == 0


def test_the_table_is_printed_as_sql_that_the_database_takes(cli: CommandLine, tmp_path: Path) -> None:
    for flags in ((), ("--dialect", "sqlite")):
        with sqlite3.connect(":memory:") as connection:
            connection.executescript(cli("outbox", "ddl", "--table", "box", *flags).fine().out)
            connection.execute("INSERT INTO box (topic, key, value) VALUES ('t', 'k', 'v')")
    assert "GENERATED ALWAYS AS IDENTITY" in cli("outbox", "ddl", "--dialect", "postgresql").fine().out


def test_what_cannot_be_is_one_line_and_exits_2(cli: CommandLine, database: SqliteDatabase) -> None:
    assert "where is the outbox" in cli("outbox", outbox_url="").failed(2)
    assert "hardparts outbox ddl" in cli("outbox", "--table", "nothing").failed(2)
    assert "can't listen on 192.0.2.1" in cli("outbox", web_host="192.0.2.1").failed(2)
    assert "not on this machine" in cli("outbox", "--broker", "kafka://192.0.2.1:9092").failed(2)
    for wrong in (("retry",), ("retry", "1", "--all"), ("--table", "x", "status")):
        ended = cli("outbox", *wrong)
        assert (ended.code, "Error: " in ended.err) == (2, True), wrong
