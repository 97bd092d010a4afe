"""A schema makes no connection and opens no file: not where it is refused, nor in the validators behind that."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from referencing.exceptions import Unresolvable

from pipeline.contracts import Contract
from pipeline.contracts.errors import SchemaBroken
from pipeline.contracts.judge import Judge

MSG_ID = "8700635f-1802-417e-89e7-595ad3600104"
GOOD = json.loads((Path(__file__).parents[2] / "agents/contracts/user-events/comment.created.json").read_text())
RAW = json.dumps({"msg_id": MSG_ID, "type": "comment.created", "data": {"user_id": 1, "msg": "", "n": 1}}).encode()
WATCHED = ("open", "socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request", "os.listdir")
_seen: list[tuple[str, Any]] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is not None and event in WATCHED:
        _seen.append((event, arguments))


sys.addaudithook(_note)


@contextmanager
def nothing_opened() -> Iterator[None]:
    global _seen  # noqa: PLW0603 - an audit hook can't be taken away again
    _seen = []
    try:
        yield
        assert _seen == []
    finally:
        _seen = None


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A port where a connection is noticed, whoever makes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()


def with_reference(reference: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(json.dumps(GOOD))
    schema["properties"]["data"]["properties"]["n"] = {"$ref": reference}
    return schema


def references(port: int, directory: Path) -> list[str]:
    other = directory / "other.json"
    other.write_text('{"type": "string"}')
    return [
        f"http://127.0.0.1:{port}/other.json", f"http://127.0.0.1:{port}/other.json#/$defs/n",
        f"//127.0.0.1:{port}/other.json", f"ftp://127.0.0.1:{port}/other.json",
        f"file://{other}", str(other), "other.json", "../other.json#/x", "#", "#/", "#/properties/data", "#n",
    ]  # fmt: skip


def test_the_watch_notices_what_is_opened(tmp_path: Path) -> None:
    with pytest.raises(AssertionError), nothing_opened():
        (tmp_path / "x").write_text("")
    with pytest.raises(AssertionError), nothing_opened(), socket.socket() as client:
        client.connect_ex(("127.0.0.1", 1))


def test_a_reference_out_of_the_file_is_refused_at_start_unfollowed(
    listening: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for reference in references(listening.getsockname()[1], tmp_path):
        schema = with_reference(reference)
        with nothing_opened(), pytest.raises(SchemaBroken, match=r"reference|loop"):
            Contract({"comment.created": schema})


def test_a_dialect_of_another_address_is_refused_unfollowed(listening: socket.socket) -> None:
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/dialect"
    for change in ({"$schema": address}, {"$id": address}, {"$vocabulary": {address: True}}):
        with nothing_opened(), pytest.raises(SchemaBroken):
            Contract({"comment.created": GOOD | change})


def test_the_validators_themselves_follow_nothing(
    listening: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second line: what a validator does with a reference that the check at start had let through."""
    monkeypatch.chdir(tmp_path)
    for reference in references(listening.getsockname()[1], tmp_path)[:8]:
        schema = with_reference(reference)
        with nothing_opened(), pytest.raises((SchemaBroken, Unresolvable)):
            Judge(schema).failures(json.loads(RAW))
        with nothing_opened(), pytest.raises(ValueError):  # noqa: PT011 - the words are the library's
            jsonschema_rs.Draft202012Validator(schema, offline=True)


def test_judging_opens_nothing() -> None:
    contract = Contract({"comment.created": GOOD})
    hostile = json.dumps({"$ref": "http://127.0.0.1:1/x", "$schema": "file:///etc/passwd", "type": "comment.created"})
    with nothing_opened():
        contract.decode(RAW)
        contract.decode(hostile.encode())
        contract.explain(hostile.encode())
