"""What `/state` answers while a unit's state is rebuilt, or another owner may have changed it: not now, never a lie."""

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from agents import topics
from pipeline.core.errors import OwnershipLost
from pipeline.core.views import Counter
from pipeline.runtime.store import Store, StoreDamaged
from pipeline.runtime.unit import Unit
from pipeline.runtime.web import Pages
from tests.behaviour.small_agent import small_agent

NUMBERS = Counter("numbers")
ROW = (NUMBERS.row_of("1"), b"7")


class NoOwner:
    """Of no use any more."""

    async def abandon(self, _timeout_s: float = 0) -> None: ...


@pytest.mark.parametrize("error", [StoreDamaged("Corruption: a test says so"), OwnershipLost("another owner")])
async def test_a_row_is_not_shown_before_the_state_is_whole_again(tmp_path: Path, error: Exception) -> None:
    app = small_agent(state=[NUMBERS]).app
    (definition,) = app.definitions
    app.context.partitions[topics.user_events.name] = 1
    app.ready_partitions = [0]
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def retake(unit: Unit) -> None:
        begun.set()
        await may_end.wait()
        unit.store.apply([ROW], 1)

    async def never(*_: object) -> int:
        raise AssertionError("nothing is fetched again")

    store = Store(tmp_path / "0")
    unit = Unit(app.context, definition, 0, "changelog", store, NoOwner(), retake, never)  # type: ignore[arg-type]
    app.units.add(unit)

    async def shown(key: str = "1") -> tuple[int, dict[str, object]]:
        request = make_mocked_request("GET", f"/state/numbers/{key}", match_info={"table": "numbers", "key": key})
        answer = await Pages(app).state(request)
        return answer.status, json.loads(answer.text or "")

    store.apply([ROW], 1)
    assert (await shown())[0] == 200
    mending = asyncio.create_task(unit._mend(error))
    await begun.wait()
    status, said = await shown()
    assert status == 503
    assert "taken over anew" in str(said["error"])
    may_end.set()
    await mending
    assert await shown() == (200, {"key": "1", "value": 7, "partition": 0})
    unit.store.close()
    assert (await shown("2"))[0] == 503
