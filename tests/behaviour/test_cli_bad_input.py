"""What no command can use, given to it all the same: one line that says so, never a traceback."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from pipeline.broker import EmbeddedBroker
from tests.behaviour.commandline import CommandLine, Ended

NOT_UTF8 = b"\xff".decode(errors="surrogateescape")
HUGE = "9" * 5000
NO_WORKER = "http://a..b"


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(scope="module")
def cli(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    cli = CommandLine(broker.url, tmp_path_factory.mktemp("bad-input"), web_token="token")
    cli("topics", "apply").fine()
    return cli


@pytest.mark.parametrize(
    "words",
    [
        ["errors", "list", "--key", NOT_UTF8],
        ["send", NOT_UTF8],
        ["tables", "get", "comments", NOT_UTF8],
        ["tables", "dump", NOT_UTF8],
        ["erase", NOT_UTF8],
        ["contracts", "explain", NOT_UTF8],
    ],
    ids=" ".join,
)
def test_an_argument_that_is_not_utf8_is_wrong_use(cli: CommandLine, words: list[str]) -> None:
    assert "isn't UTF-8 text: '\\udcff'" in cli(*words).failed(2)


@pytest.mark.parametrize("id_", [f"0-{HUGE}", f"{HUGE}-0", "0-", "-", "0", NOT_UTF8])
def test_no_id_of_an_error_record(cli: CommandLine, id_: str) -> None:
    ended = cli("errors", "show", id_)
    assert ended.failed(2 if id_ == NOT_UTF8 else 1)


def test_headers_that_are_not_ours_hide_no_error_record(cli: CommandLine, broker: EmbeddedBroker) -> None:
    """Anybody may write to a topic; one odd record mustn't keep the others from being listed."""

    async def write() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
            huge = HUGE.encode()
            headers = [
                ("hp-agent", None),
                ("hp-last-failed-at", huge),
                ("hp-source-offset", huge),
                ("hp-attempts", b""),
            ]
            await producer.send_and_wait("hardparts.errors", b"odd", partition=0, headers=headers)

    asyncio.run(write())
    (row,) = cli("errors", "list", "--json").fine().rows
    assert (row["agent"], row["offset"], row["attempts"]) == ("", None, None)
    assert cli("errors", "list").fine().out.startswith("0-0 ")
    assert "value: odd" in cli("errors", "show", "0-0").fine().out


def test_a_worker_that_can_have_no_such_name(cli: CommandLine) -> None:
    assert "no worker answers at http://a..b" in cli("tables", "get", "comments", "1", "--worker", NO_WORKER).failed(1)
    assert "no worker answers at http://a..b" in cli("erase", "1", "--worker", NO_WORKER).failed(1)


@pytest.mark.parametrize("words", [["send", "user-events"], ["contracts", "explain", "user-events"]], ids=" ".join)
def test_standard_input_that_is_closed_is_named(cli: CommandLine, words: list[str]) -> None:
    assert "standard input is closed" in redirected(cli, "<&-", *words).failed(2)


@pytest.mark.parametrize("words", [["errors", "list", "--agent", "none"], ["tables", "dump", "comments"]], ids=" ".join)
def test_standard_error_may_be_closed(cli: CommandLine, words: list[str]) -> None:
    redirected(cli, "2>&-", *words).fine()


def redirected(cli: CommandLine, how: str, *words: str) -> Ended:
    """The command, started by a shell that redirects what it has."""
    started = ["sh", "-c", f'exec "$@" {how}', "sh", sys.executable, "-m", "pipeline", *words]
    ran = subprocess.run(started, capture_output=True, cwd=cli.directory, env=cli.environment, timeout=60, check=False)
    return Ended(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def test_an_application_named_relative_to_nothing_is_misconfigured(cli: CommandLine) -> None:
    assert "HARDPARTS_APP is module:attribute, not '..a:b'" in cli("worker", app="..a:b").failed(2)


def test_what_is_sent_from_a_directory_names_it(cli: CommandLine, tmp_path: Path) -> None:
    assert str(tmp_path) in cli("send", "user-events", "--file", str(tmp_path)).failed(1)
    assert json.loads(cli("send", "user-events", "--json").fine().out)["confirmed"] == 0
