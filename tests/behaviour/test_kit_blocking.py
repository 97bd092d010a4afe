"""A record that blocks keeps its place: what is before it is finished, what is behind it waits (E3)."""

import asyncio
import logging

import pytest

from agents import topics
from pipeline.core.effects import publish
from pipeline.core.errors import Blocking
from pipeline.core.routing import partition_of
from pipeline.core.views import MsgIdSet
from pipeline.testing import Kit
from tests.behaviour.small_agent import small_agent

SEEN = MsgIdSet("seen")


@pytest.fixture(params=["sync", "async"])
def away(request):
    """Names of texts whose dependency is away now, and a kit of an agent that needs it."""
    missing: set[str] = set()

    def counts(event, state):
        total = SEEN.of(state).add(event.msg_id)
        if event.data["msg"] in missing:
            raise Blocking("away", "ledger")
        return [publish(topics.comment_counts, "comment.counted", user_id=event.data["user_id"], count=total)]

    async def counts_later(event, state):
        return counts(event, state)

    handler = counts if request.param == "sync" else counts_later
    kit = Kit(small_agent({"comment.created": handler}, state=[SEEN]), attempts_max=2)
    return missing, kit


@pytest.mark.parametrize("then", ["goes on", "restarts", "loses its disk"])
def test_a_blocked_record_keeps_its_place_in_mid_batch(away, then):
    missing, kit = away
    missing.add("b")
    for text in "abc":
        kit.given("comment.created", user_id=1, msg=text)
    kit.then_event("comment.counted", {"user_id": 1, "count": 1})
    assert kit.then_blocked("ledger").record.offset == 1
    kit.then_nothing_else()
    assert kit.state(SEEN, 1) == 1  # what the blocked handler had written is gone
    assert kit.worker.unit(0).positions == {"user-events": 1}
    missing.clear()
    if then != "goes on":
        kit.worker.restart("kept" if then == "restarts" else "lost")
    kit.run()
    kit.then_event("comment.counted", {"user_id": 1, "count": 2})
    kit.then_event("comment.counted", {"user_id": 1, "count": 3})
    kit.then_nothing_else()
    assert len(kit.physical_events()) == 3


def test_users_behind_a_blocked_one_wait_and_none_is_applied_twice(away):
    missing, kit = away
    missing.add("b")
    for user, text in ((1, "a"), (2, "b"), (3, "c"), (1, "d")):
        kit.given("comment.created", user_id=user, msg=text)
    kit.then_blocked("ledger")
    assert [event.key for event in kit.events()] == ["1"]
    missing.clear()
    kit.run()
    assert [(event.key, event.data["count"]) for event in kit.events()] == [("1", 1), ("2", 1), ("3", 1), ("1", 2)]


def test_another_partition_goes_on(away):
    missing, kit = away
    missing.add("b")
    kit = Kit(small_agent({"comment.created": _handler_of(kit)}, state=[SEEN]), partitions=2, attempts_max=1)
    here, there = (next(user for user in range(9) if partition_of(b"%d" % user, 2) == number) for number in (0, 1))
    kit.feed(
        kit.event("comment.created", user_id=user, msg=text) for user, text in ((here, "b"), (here, "c"), (there, "a"))
    )
    kit.then_event("comment.counted", {"user_id": there, "count": 1})
    kit.then_blocked("ledger")
    kit.then_nothing_else()


def _handler_of(kit: Kit):
    return kit.worker.agent.handlers["comment.created"].function


def test_one_alert_opens_and_one_closes_however_many_attempts(away, caplog):  # E3
    missing, kit = away
    caplog.set_level(logging.WARNING, "hardparts.alerts")
    missing.add("a")
    kit.given("comment.created", user_id=1, msg="a")
    for _ in range(3):
        kit.run()
    assert list(kit.worker.context.alerts.open) == ["blocked:small:0"]
    missing.clear()
    kit.run()
    assert kit.worker.context.alerts.open == {}
    alerts = [message for message in caplog.messages if message.startswith("ALERT")]
    assert [alert.split()[1] for alert in alerts] == ["opened", "closed"]
    assert "reason='ledger'" in alerts[0]


def test_a_handler_that_ends_in_a_cancellation_of_its_own_blocks_as_any_bug_does():
    async def given_up(event):
        if event.data["msg"] == "b":
            asked = asyncio.ensure_future(asyncio.sleep(60))
            asked.cancel()
            await asked
        return []

    kit = Kit(small_agent({"comment.created": given_up}), attempts_max=2)
    for text in "abc":
        kit.given("comment.created", user_id=1, msg=text)
    blocked = kit.then_blocked("bug")
    assert blocked.record.offset == 1
    assert "cancelled" in blocked.message
    assert "given_up" in blocked.stack
    kit.then_nothing_else()
    assert kit.worker.unit(0).positions == {"user-events": 1}
