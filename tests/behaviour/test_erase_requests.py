"""What `POST /erase` answers to a body that names no key: 400, whatever stands in it."""

import json
from typing import Any

import pytest

from pipeline.runtime.erase import answer
from pipeline.runtime.settings import read_settings
from pipeline.runtime.token import HEADER, bearer
from tests.behaviour.small_agent import small_agent

ASKED = {"agent": "small", "key": "1", "dry_run": True}


class Request:
    """As much of one as is looked at."""

    def __init__(self, body: str) -> None:
        self.headers, self._body = {HEADER: bearer("secret")}, body

    async def json(self) -> Any:
        return json.loads(self._body)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(ASKED | {"key": "\ud800"}), json.dumps(ASKED | {"key": ""}), json.dumps(ASKED | {"key": "\0"}),
        json.dumps(ASKED | {"key": 1}), json.dumps(ASKED | {"dry_run": "no"}), "[]", "{", "[" * 100_000,
    ],
    ids=range(8),
)  # fmt: skip
async def test_a_body_that_names_no_key_is_refused(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    monkeypatch.setenv("HARDPARTS_WEB_TOKEN", "secret")
    app = small_agent().app
    assert read_settings().token == "secret"
    app.ready_partitions = [0]
    app.context.partitions["user-events"] = 1
    refused = await answer(app, Request(body))  # type: ignore[arg-type]
    assert refused.status == 400
    assert json.loads(refused.text or "")["error"].startswith("send {")
