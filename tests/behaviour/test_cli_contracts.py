"""`hardparts contracts explain`: the worker's own verdict, before anything is sent."""

import json
from pathlib import Path

import pytest

from pipeline.ops.explain import events_of
from tests.behaviour.commandline import CommandLine

GOOD = {
    "msg_id": "11111111-1111-4111-8111-111111111111",
    "type": "comment.created",
    "data": {"user_id": 7, "msg": "Robert'); drop table students"},
}
BAD = GOOD | {"data": {"user_id": "abc", "msg": "\x1b[31m"}}


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine("kafka://127.0.0.1:1", tmp_path)


def test_a_good_event_is_fine_and_a_bad_one_is_explained(cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "event.json"
    path.write_text(json.dumps(GOOD, indent=2))
    assert cli("contracts", "explain", "user-events", str(path)).fine().out == "line 1: ok, comment.created\n"
    ended = cli("contracts", "explain", "user-events", stdin=json.dumps(BAD))
    assert ended.code == 1
    assert 'In :data/:user_id, val: "abc"' in ended.out
    assert {char for char in ended.out if not char.isprintable()} == {"\n"}


def test_one_event_a_line_is_judged_line_by_line(cli: CommandLine) -> None:
    lines = "\n".join(["", json.dumps(GOOD), "{", json.dumps(BAD)])
    ended = cli("contracts", "explain", "user-events", "--json", stdin=lines)
    assert ended.code == 1
    assert [(row["line"], row["valid"], row["kind"]) for row in ended.rows] == [
        (2, True, None),
        (3, False, "MalformedJson"),
        (4, False, "ContractBroken"),
    ]


def test_a_topic_without_a_contract_and_a_missing_file_are_named(cli: CommandLine, tmp_path: Path) -> None:
    assert "user-events" in cli("contracts", "explain", "nothing").failed(2)
    assert str(tmp_path / "x") in cli("contracts", "explain", "user-events", str(tmp_path / "x")).failed(1)


@pytest.mark.parametrize(
    ("content", "events"),
    [
        (b'{"a":\n1}\n', [(1, b'{"a":\n1}')]),
        (b'{"a":1}\n{"a":2}\n', [(1, b'{"a":1}'), (2, b'{"a":2}')]),
        (b"\xff\n\xfe", [(1, b"\xff\n\xfe")]),
        (b"", [(1, b"")]),
    ],
)
def test_what_counts_as_one_event(content: bytes, events: list[tuple[int, bytes]]) -> None:
    assert list(events_of(content)) == events
