"""A disk that breaks before a unit is released: what the unit held in this worker is given back all the same."""

import asyncio
import logging
import shutil
from pathlib import Path

import pytest

from pipeline.core.errors import Blocking
from pipeline.runtime.store import Store
from pipeline.testing import Kit
from tests.behaviour.small_agent import small_agent


async def away(_event: object) -> list[object]:
    raise Blocking("away", "ledger")


def test_a_unit_whose_state_cannot_be_closed_leaves_no_alert_and_no_slot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kit = Kit(small_agent({"comment.created": away}), attempts_max=1)
    kit.given("comment.created", user_id=1, msg="a")
    kit.then_blocked("ledger")
    unit, context = kit.worker.unit(0), kit.worker.context
    context.demand.join(unit.name)
    unit.store = Store(tmp_path / "0")
    unit.store.apply([(b"row", b"not on the disk yet")], 1)
    shutil.rmtree(unit.store.path)
    asyncio.run(unit.stop(0))
    assert context.alerts.open == {}
    assert b"hardparts_blocked_seconds{" not in context.metrics.text()
    assert unit.name not in context.demand._units
    assert f"{unit.store.path}: not closed cleanly" in caplog.text


def test_a_store_that_cannot_be_closed_can_be_opened_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "hardparts.store")
    store = Store(tmp_path / "0")
    store.apply([(b"row", b"1")], 1)
    shutil.rmtree(tmp_path / "0")
    store.close()
    assert "not closed cleanly" in caplog.text
    again = Store(tmp_path / "0")
    assert again.get(b"row") is None
    again.close()
