"""What the gateway's figures rest on: the load's events pass the door, and its bookkeeping is what was accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.gateway import TOPIC, Load, event, in_custody, msg_id
from tests.gateway.gateways import gateway, in_topic, scripted
from tests.kafka.waiting import until


async def test_what_it_notes_as_accepted_is_what_arrives_in_order_per_user(tmp_path: Path) -> None:
    cluster = scripted()
    async with gateway(tmp_path, cluster) as ask:
        load = Load(ask.url)
        latencies = await load.run("some", rate_per_s=300, seconds=1)
        assert latencies.requests == load.number == 300
        assert 0 < latencies.p50_ms <= latencies.p99_ms <= latencies.max_ms

        async def empty() -> bool:
            return await in_custody(ask.url) == 0

        await until(empty, 60, "custody is empty")
    accepted = [number for numbers in load.accepted.values() for number in numbers]
    assert sorted(accepted) == list(range(300))
    assert sorted(in_topic(cluster, TOPIC)) == [msg_id(number) for number in range(300)]


async def test_an_event_that_is_refused_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench.gateway.event", lambda number, user: event(number, user)[:-1])
    async with gateway(tmp_path, scripted()) as ask:
        with pytest.raises(RuntimeError, match="some: not accepted: 422"):
            await Load(ask.url).run("some", rate_per_s=50, seconds=1)
