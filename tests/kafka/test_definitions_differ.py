"""Two versions of an application, whose agent reads different topics, in one group: each unit is given whole."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID, uuid5

import pytest

from tests.kafka import pages, sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.feed import WITHOUT_END, Feed
from tests.kafka.trial import Trial
from tests.kafka.waiting import until
from tests.kafka.webhook import Webhook
from tests.oracle.generator import Mix, generate
from tests.oracle.journal import Journal
from tests.oracle.lag import wait_for_lag_zero
from tests.oracle.process import Worker
from tests.oracle.records import COMMENT_COUNTS, SOURCES, USER_EVENTS
from tests.oracle.truth import read

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

PARTITIONS = 4
MIX = Mix(events=WITHOUT_END, users=300, duplicates=0.1, poison=0.0, conflicts=0.0, team=0.3)
REBALANCES = 18
"""Two for each of the eight starts and stops under load, and the first two starts."""


class Group:
    """Workers of both versions."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.workers: dict[str, Worker] = {}

    async def start(self, name: str, version: str) -> Worker:
        self.workers[name] = worker = self._trial.worker(name, app=f"tests.kafka.apps.{version}:app")
        await self._trial.start(worker)
        await self._trial.shared(*self.workers.values())
        return worker

    async def stop(self, name: str) -> None:
        await self._trial.stop(self.workers.pop(name))
        await self._trial.shared(*self.workers.values())

    async def owns(self, name: str) -> list[int]:
        numbers: list[int] = (await pages.ready(self.workers[name]))["partitions"]
        return numbers

    async def deploy(self, version: str, feed: Feed, *, mixed: dict[str, list[int]]) -> None:
        """One after the other; `mixed`: what each owns while one of the two is the new version."""
        await feed.more(300)
        await self.stop("one")
        await self.start("one", version)
        await feed.more(300)
        assert {name: await self.owns(name) for name in self.workers} == mixed
        for worker in self.workers.values():
            await until(lambda w=worker: _alerts(w)[-1:] == ["opened"], 10, f"{worker.instance} opens the alert")
        await self.stop("two")
        await self.start("two", version)
        await feed.more(300)
        for worker in self.workers.values():
            await until(lambda w=worker: _alerts(w)[-1:] != ["opened"], 10, f"{worker.instance} closes it")


async def test_a_rolling_deployment_that_adds_or_removes_a_source(kafka: KafkaCluster, tmp_path: Path) -> None:
    with Webhook() as webhook:
        trial = Trial(kafka, tmp_path, partitions=PARTITIONS, agent="counting", alert_webhook=webhook.url)
        async with trial:
            group = Group(trial)
            await group.start("two", "one_source")
            await group.start("one", "one_source")
            async with Feed(trial, sizes.seed(), 500.0, MIX) as feed:
                await group.deploy("two_sources", feed, mixed={"two": [], "one": [0, 1, 2, 3]})
                await until(lambda: webhook.states("definitions")[-1:] == ["closed"], 10, "the webhook hears of it")
                until_then = _ids(Journal(feed.journal.seed, list(feed.journal.written)), SOURCES)
                await until(lambda: _all_there(kafka, until_then), 30, "both sources have been read")
                await group.deploy("one_source", feed, mixed={"two": [0, 1, 2, 3], "one": []})
                journal = await feed.end()
            await wait_for_lag_zero(kafka.bootstrap, trial.app_id, [USER_EVENTS], 30)
            counted = await _counted(kafka)
            changelog = (await read(kafka.bootstrap, [trial.changelog]))[trial.changelog]
            await trial.stop(*group.workers.values())
        assert webhook.states("definitions")[-1] == "closed"
    assert _ids(journal, [USER_EVENTS]) <= counted.keys()
    twice = {msg_id: outputs for msg_id, outputs in counted.items() if len(outputs) > 1}
    assert not twice, f"{len(twice)} events have two outputs"
    takeovers = sum(record.key == b"_owner" for records in changelog.values() for record in records)
    print(f"{takeovers} take-overs of a unit")
    assert takeovers <= REBALANCES * PARTITIONS


def _alerts(worker: Worker) -> list[str]:
    lines = worker.end_of_log(100_000).splitlines()
    return [word for line in lines for word in ("opened", "closed") if f"ALERT {word} definitions" in line]


def _ids(journal: Journal, topics: Iterable[str]) -> set[str]:
    """The msg_ids of the outputs that these have."""
    made = [one for entry in journal.written if entry.topic in topics for one in entry.records]
    events = [json.loads(one.value or b"") for one in made]
    counted = [event["msg_id"] for event in events if event["type"] in ("comment.created", "team.joined")]
    return {str(uuid5(UUID(msg_id), "counting/counted")) for msg_id in counted}


async def _all_there(kafka: KafkaCluster, ids: set[str]) -> bool:
    return ids <= (await _counted(kafka)).keys()


async def _counted(kafka: KafkaCluster) -> dict[str, set[bytes]]:
    """msg_id → the outputs that have it."""
    outputs: dict[str, set[bytes]] = defaultdict(set)
    log = (await read(kafka.bootstrap, [COMMENT_COUNTS]))[COMMENT_COUNTS]
    for records in log.values():
        for record in records:
            outputs[json.loads(record.value or b"")["msg_id"]].add(record.value or b"")
    return outputs


async def test_a_static_member_that_is_back_with_other_sources_is_given_them(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    """Within its session, the broker gives it what it had, without a rebalance."""
    trial = Trial(
        kafka, tmp_path, partitions=PARTITIONS, agent="counting", static_membership="true", session_timeout_s="60"
    )
    async with trial:
        group = Group(trial)
        for version in ("one_source", "two_sources", "one_source"):
            worker = await group.start("one", version)
            journal = await trial.write(generate(sizes.seed(), Mix(events=200, poison=0.0, conflicts=0.0, team=0.3)))
            read_here = SOURCES if version == "two_sources" else [USER_EVENTS]
            wanted = _ids(journal, read_here)
            await until(lambda ids=wanted: _all_there(kafka, ids), 30, f"{version} has read {read_here}")
            await trial.stop(worker)
