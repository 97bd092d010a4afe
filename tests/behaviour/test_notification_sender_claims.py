"""Claims outlive the unit that made them, in the same process too (D4)."""

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from pipeline.core.effects import Outside
from pipeline.core.errors import Blocking, Reject
from pipeline.core.event import Event, ReadOnly
from pipeline.core.outcome import Applied
from pipeline.core.views import Claims
from pipeline.runtime.outside import Outsider
from pipeline.runtime.ownership import ProducerBroken
from pipeline.testing import Kit
from tests.behaviour.small_agent import small_agent

CLAIMS = Claims("acts")


def acting(*acts):
    """A kit whose agent acts once a comment, each time that its handler runs with the next of `acts`."""
    left = list(acts)

    def acts_once(event):
        left.append(left.pop(0))
        return [Outside("acts", left[-1], "an act")]

    return Kit(small_agent({"comment.created": acts_once}, state=[CLAIMS]), attempts_max=1)


def raising(error: BaseException):
    async def act() -> None:
        raise error

    return act


async def nothing() -> None:
    """An act that works."""


async def _append(acts: list[str], what: str) -> None:
    acts.append(what)


class Unit:
    """What a unit lends its claims: rows that are stored at once."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes | None] = {}

    async def record(self, events) -> None:
        for rows in events:
            self.rows.update(rows)

    def outsider(self, context, name: str = "test/small/0") -> Outsider:
        return Outsider([CLAIMS], context, name, self.rows.get, self.record)


def applied_with(act, msg_id="8700635f-1802-417e-89e7-595ad3600104"):
    event = Event(msg_id, "t", "1", ReadOnly({}), None, "topic", 0, 0, 0, None)
    return Applied(None, event, (), (), (), (), (Outside("acts", act, "an act"),))


@pytest.mark.parametrize("ends", ["cancelled within the act", "cancelled after it"])
async def test_an_act_that_a_rebalance_cut_off_is_in_doubt_for_the_next_unit_of_the_process(ends):
    context, unit, acts = Kit(small_agent()).worker.context, Unit(), []
    begun = asyncio.Event()

    async def act() -> None:
        acts.append("sent")
        begun.set()
        if ends == "cancelled within the act":
            await asyncio.Event().wait()

    first = asyncio.create_task(unit.outsider(context).act(applied_with(act)))
    await begun.wait()
    if ends == "cancelled within the act":
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    else:
        await first  # and its event's rows are never recorded
    again = applied_with(lambda: _append(acts, "sent again"))
    after = await unit.outsider(context).act(again)
    assert acts == ["sent"]
    assert [audit.kind for audit in after.audits] == (["in doubt"] if ends == "cancelled within the act" else [])


async def test_only_what_hangs_is_in_doubt_after_a_kill():
    kit, unit, acts, hangs = Kit(small_agent()), Unit(), [], asyncio.Event()

    async def act(lane: int) -> None:
        if lane == 2:
            hangs.set()
            await asyncio.Event().wait()
        acts.append(lane)

    dead = unit.outsider(kit.worker.context)
    lanes = [asyncio.create_task(dead.act(applied_with(partial(act, lane), f"msg-{lane}"))) for lane in range(5)]
    await hangs.wait()
    await asyncio.wait([task for lane, task in enumerate(lanes) if lane != 2])
    lanes[2].cancel()  # with its process, whose incarnation the next one hasn't
    next_one = unit.outsider(replace(kit.worker.context, incarnation="the next process", acting=set()))
    after = [await next_one.act(applied_with(partial(act, lane), f"msg-{lane}")) for lane in range(5)]
    assert sorted(acts) == [0, 1, 3, 4]
    assert [lane for lane, one in enumerate(after) if one.audits] == [2]


async def test_an_act_whose_done_could_not_be_stored_is_not_repeated():
    context, unit, acts = Kit(small_agent()).worker.context, Unit(), []
    broken = ["the producer"]

    async def record(events) -> None:
        if broken and any(value == b"done" for rows in events for _, value in rows):
            raise ProducerBroken(broken.pop())
        await unit.record(events)

    outsider = Outsider([CLAIMS], context, "test/small/0", unit.rows.get, record)
    applied = applied_with(lambda: _append(acts, "sent"))
    with pytest.raises(ProducerBroken):
        await outsider.act(applied)
    after = await outsider.act(applied)
    assert acts == ["sent"]
    assert after.audits == ()
    assert unit.rows[CLAIMS.claim_row(applied.event.msg_id)] == b"done"


async def test_an_act_that_did_not_happen_is_repeated_by_the_next_unit_of_the_process():
    context, unit = Kit(small_agent()).worker.context, Unit()
    with pytest.raises(Blocking):
        await unit.outsider(context).act(applied_with(raising(Blocking("away", "smtp"))))
    after = await unit.outsider(context).act(applied_with(nothing))
    assert dict(after.rows)[CLAIMS.claim_row(after.event.msg_id)] == b"done"
    assert context.acting


async def test_agents_that_act_on_one_msg_id_under_one_partition_number_have_claims_of_their_own():
    context, acts = Kit(small_agent()).worker.context, []
    for agent in ("one", "other"):
        act = applied_with(lambda agent=agent: _append(acts, agent))
        after = await Unit().outsider(context, f"test/{agent}/0").act(act)
        assert after.audits == ()
    assert acts == ["one", "other"]


async def test_a_claim_that_another_lane_failed_to_store_is_an_error_of_the_producer():
    context, unit, acts, calls = Kit(small_agent()).worker.context, Unit(), [], []

    async def record(events) -> None:
        calls.append(len(events))
        await asyncio.sleep(0)  # the other lanes want a claim meanwhile
        if len(calls) == 2:
            raise ProducerBroken("no ack")
        await unit.record(events)

    outsider = Outsider([CLAIMS], context, "test/small/0", unit.rows.get, record)
    lanes = (outsider.act(applied_with(lambda: _append(acts, "sent"), f"msg-{lane}")) for lane in range(3))
    results = await asyncio.gather(*lanes, return_exceptions=True)
    assert calls == [1, 3]  # the others' claims, and that the first is done
    assert [type(result) for result in results] == [ProducerBroken, ProducerBroken, ProducerBroken]
    assert acts == ["sent"]


def test_an_act_that_fails_in_an_unknown_way_is_in_doubt_not_repeated():
    kit = acting(raising(ZeroDivisionError("a bug, who knows where")), nothing)
    given = kit.given("comment.created", user_id=1, msg="a")
    kit.then_audited("in doubt")
    kit.then_nothing_else()
    assert kit.state("acts", given.msg_id) == "in doubt"


def test_an_act_that_is_rejected_can_be_replayed_by_the_same_process():
    kit = acting(raising(Reject("no")), nothing)
    given = kit.given("comment.created", user_id=1, msg="a")
    kit.then_rejected("no")
    kit.feed([given])
    kit.then_nothing_else()
    assert kit.state("acts", given.msg_id) == "done"


def test_an_act_that_is_rejected_can_be_replayed_by_another_process():
    kit = acting(raising(Reject("no")), nothing)
    given = kit.given("comment.created", user_id=1, msg="a")
    kit.then_rejected("no")
    kit.restart("lost")
    kit.feed([given])
    kit.then_nothing_else()
    assert kit.state("acts", given.msg_id) == "done"


def test_what_is_recorded_needs_no_memory():
    kit = acting(nothing, nothing)
    kit.given("comment.created", user_id=1, msg="a")
    kit.given("comment.created", user_id=2, msg="b")
    kit.then_nothing_else()
    assert kit.worker.context.acting == set()


@pytest.mark.parametrize(("effects", "said"), [(2, "acts outside once"), (1, "no Claims view")])
def test_an_effect_without_a_claim_of_its_own_is_a_bug_of_the_agent(effects, said):
    def acts(event):
        return [Outside("acts", nothing, "an act")] * effects

    kit = Kit(small_agent({"comment.created": acts}, state=[CLAIMS] if effects == 2 else []))
    kit.given("comment.created", user_id=1, msg="a")
    assert said in kit.then_blocked("bug").message
