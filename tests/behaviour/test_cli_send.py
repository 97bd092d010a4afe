"""`hardparts send`: what is on the topic is what was in the lines, confirmed, or it says at which line it stopped."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.broker import EmbeddedBroker
from pipeline.core.errors import Misconfigured
from pipeline.core.routing import partition_of
from pipeline.ops.application import declared_partitioners
from pipeline.ops.reading import read_to_end
from pipeline.ops.send import LineBroken, parse_line
from pipeline.runtime.admin import connect
from pipeline.runtime.settings import Settings
from tests.behaviour.commandline import ROOT, CommandLine

PARTITIONS = 3


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def cli(broker: EmbeddedBroker, tmp_path: Path) -> CommandLine:
    return CommandLine(broker.url, tmp_path)


async def make_topic(broker: EmbeddedBroker) -> None:
    async with connect(Settings(broker=broker.url)) as admin:
        await admin.create("letters", PARTITIONS, 1, {})


async def sent(broker: EmbeddedBroker) -> list[Any]:
    return [record async for record in read_to_end(Settings(broker=broker.url), "letters")]


async def test_every_line_arrives_in_order_of_its_key_where_java_clients_would_put_it(
    cli: CommandLine, broker: EmbeddedBroker, tmp_path: Path
) -> None:
    await make_topic(broker)
    lines = [
        {"key": number % 7, "value": {"n": number, "text": "é"}, "headers": {"h": "ü"}} for number in range(12_000)
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    assert cli("send", "letters", "--file", str(path), "--json").fine().rows == [
        {"topic": "letters", "confirmed": len(lines)}
    ]
    records = await sent(broker)
    assert sorted(json.loads(record.value)["n"] for record in records) == list(range(len(lines)))
    for key in range(7):
        mine = [record for record in records if record.key == b"%d" % key]
        assert {record.partition for record in mine} == {partition_of(b"%d" % key, PARTITIONS)}
        numbers = [json.loads(record.value)["n"] for record in mine]
        assert numbers == sorted(numbers)
    assert records[0].headers == (("h", "ü".encode()),)
    assert b'","' not in records[0].value
    assert b" " not in records[0].value


async def test_a_bad_line_stops_it_and_everything_before_that_line_is_confirmed(
    cli: CommandLine, broker: EmbeddedBroker
) -> None:
    await make_topic(broker)
    ended = cli(
        "send",
        "letters",
        stdin='{"key":"a","value":1}\n\n{"key":"a","value":null}\n{"key":"a"}\n{"key":"a","value":2}\n',
    )
    assert ended.failed(1) == "error: line 4: no value (null writes a tombstone); confirmed before it: 2"
    assert [record.value for record in await sent(broker)] == [b"1", None]


async def test_a_line_that_came_through_a_pipe_is_sent_before_the_pipe_ends(
    cli: CommandLine, broker: EmbeddedBroker
) -> None:
    await make_topic(broker)
    with cli.running("send", "letters") as process:
        assert process.stdin
        process.stdin.write('{"key":"a","value":1}\n')
        process.stdin.flush()
        while not await sent(broker):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        held, process.stdin = process.stdin, None  # the pipe stays open until the process has ended
        _, errors = process.communicate(timeout=20)
        held.close()
    assert process.returncode == 1
    assert "Traceback" not in errors


def test_progress_is_shown_on_a_terminal_and_only_there(
    cli: CommandLine, broker: EmbeddedBroker, tmp_path: Path
) -> None:
    asyncio.run(make_topic(broker))
    path = tmp_path / "in.jsonl"
    path.write_text('{"key":"a","value":1}\n' * 3)
    assert cli("send", "letters", "--file", str(path)).fine().out == "3 records confirmed by letters\n"  # and err is ""
    terminal, its_end = pty.openpty()
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "send", "letters", "--file", str(path)],
        stdout=subprocess.PIPE, stderr=its_end, timeout=60, cwd=cli.directory,
        env=cli.environment | {"TERM": "xterm"}, check=True,
    )  # fmt: skip
    os.close(its_end)
    assert ended.stdout == b"3 records confirmed by letters\n"
    assert b"sending to letters" in os.read(terminal, 1 << 16)
    os.close(terminal)


def test_a_missing_topic_and_a_missing_file_are_named(cli: CommandLine, tmp_path: Path) -> None:
    assert "topic letters doesn't exist" in cli("send", "letters", stdin='{"value":1}').failed(1)
    assert str(tmp_path / "none") in cli("send", "letters", "--file", str(tmp_path / "none")).failed(1)


async def test_a_broker_that_stops_answering_ends_it_with_what_is_confirmed(
    cli: CommandLine, broker: EmbeddedBroker
) -> None:
    await make_topic(broker)
    with cli.running("send", "letters") as process:
        assert process.stdin
        process.stdin.write('{"key":"a","value":1}\n')
        process.stdin.flush()
        while not await sent(broker):
            assert process.poll() is None
        assert broker.pid
        os.kill(broker.pid, signal.SIGSTOP)
        _, errors = process.communicate('{"key":"a","value":2}\n', timeout=60)
        os.kill(broker.pid, signal.SIGCONT)
    assert process.returncode == 1
    assert "line 2: not confirmed" in errors
    assert "confirmed before it: 1" in errors


@given(st.binary(max_size=60))
def test_any_bytes_are_a_record_or_a_broken_line(raw: bytes) -> None:
    try:
        line = parse_line(raw)
    except LineBroken:
        return
    assert line.value is None or json.loads(line.value) is not ...


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.text() | st.integers(), json_values.filter(lambda value: value is not None))
def test_any_json_value_comes_out_as_it_went_in(key: str | int, value: Any) -> None:
    line = parse_line(json.dumps({"key": key, "value": value}).encode())
    assert line.key == str(key).encode()
    assert line.value is not None
    assert json.loads(line.value) == value


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"value":NaN}', "NaN is not JSON"),
        (b'{"value":1e999}', "beyond what a float holds"),
        (b'{"value":1,"kye":"a"}', "unknown field 'kye'"),
        (b'{"value":1,"key":true}', "not bool"),
        (b'{"value":1,"key":1.5}', "not float"),
        (b'{"value":1,"headers":{"a":1}}', "headers are an object of texts"),
        (b'{"value":"\\ud800"}', "surrogate"),
        (b"[1]", "not a JSON object"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_broken_line_says_what_is_wrong(raw: bytes, reason: str) -> None:
    with pytest.raises(LineBroken, match=reason):
        parse_line(raw)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import a_package_that_is_not_installed\n", "No module named 'a_package_that_is_not_installed'"),
        ("app = 1\n", "is a int, not a pipeline.runtime.app.App"),
        (None, "No module named 'agents.app'"),
    ],
)
async def test_an_application_that_is_there_but_broken_sends_no_key_to_a_wrong_partition(
    cli: CommandLine, broker: EmbeddedBroker, tmp_path: Path, code: str | None, said: str
) -> None:
    """Its catalogue may declare another partitioner than murmur2."""
    await make_topic(broker)
    here = elsewhere(cli, tmp_path)
    (here / "agents").mkdir()
    (here / "agents" / "__init__.py").touch()
    if code is not None:
        (here / "agents" / "app.py").write_text(code)
    assert said in cli("send", "letters", stdin='{"key": 1, "value": 1}').failed(2)
    assert said in cli("outbox", outbox_url=f"sqlite:///{tmp_path}/outbox.db").failed(2)
    assert await sent(broker) == []


def test_only_where_the_package_of_the_default_application_is_missing_do_keys_go_by_murmur2(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Misconfigured, match="No module named 'no_such_package'"):
        declared_partitioners(Settings(app="no_such_package.app:app"))
    monkeypatch.setattr(Settings.model_fields["app"], "default", "no_such_package.app:app")
    assert declared_partitioners(Settings(app="no_such_package.app:app")) == {}
    assert "keys go to their partitions by murmur2" in caplog.text


def elsewhere(cli: CommandLine, tmp_path: Path) -> Path:
    """An empty directory, in which commands run from here on."""
    here, packages = tmp_path / "elsewhere", tmp_path / "packages"
    here.mkdir()
    packages.mkdir()
    (packages / "pipeline").symlink_to(ROOT / "pipeline")
    cli.environment["PYTHONPATH"] = str(packages)
    cli.directory = here
    return here
