"""Records in the partition of another partitioner: rejected by name, bounded, and never counted apart in silence."""

from itertools import count, islice
from zlib import crc32

import pytest

from agents import topics
from agents.user_events import user_events
from pipeline.core.effects import publish
from pipeline.core.routing import partition_of
from pipeline.core.topic import Catalogue, Topic
from pipeline.core.views import MsgIdSet
from pipeline.runtime.agent import Agent
from pipeline.runtime.app import App
from pipeline.testing import Kit
from tests.behaviour.small_agent import CONTRACTS, small_agent

SEEN = MsgIdSet("seen")
PARTITIONS = 4
BOUND, RECORDS_BOUND = 20, 200


def home(user: int) -> int:
    return partition_of(b"%d" % user, PARTITIONS)


def by_crc32(user: int) -> int:
    return crc32(b"%d" % user) % PARTITIONS


STRAY = next(user for user in count(1) if by_crc32(user) != home(user))
FIRST = [user for user in range(1, 2000) if by_crc32(user) == 0]
"""What librdkafka puts into partition 0."""


def counting(event, state):
    total = SEEN.of(state).add(event.msg_id)
    return [publish(topics.comment_counts, "comment.counted", user_id=event.data["user_id"], count=total)]


async def counting_later(event, state):
    return counting(event, state)


def comments(kit: Kit, users):
    return [kit.event("comment.created", user_id=user, msg="x") for user in users]


def test_five_by_one_client_and_five_by_another_are_never_counted_apart_in_silence():
    kit = Kit(user_events, partitions=PARTITIONS)
    events = comments(kit, [STRAY] * 10)
    kit.feed(events, partitions=[home(STRAY), by_crc32(STRAY)] * 5)
    for number in range(1, 6):
        kit.then_event("comment.counted", {"user_id": STRAY, "count": number})
    for _ in range(5):
        assert "; crc32 puts it here" in kit.then_rejected("WrongPartition").reason
    kit.then_nothing_else()
    assert kit.state("comments", STRAY) == 5


def test_a_stray_that_is_sent_again_to_its_own_partition_is_applied():
    kit = Kit(user_events, partitions=PARTITIONS)
    [event] = comments(kit, [STRAY])
    kit.feed([event], partitions=[by_crc32(STRAY)])
    kit.then_rejected("WrongPartition")
    kit.feed([event])
    kit.then_event("comment.counted", {"user_id": STRAY, "count": 1})


@pytest.mark.parametrize("handler", [counting, counting_later])
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_a_thousand_strays_stop_at_the_bound_and_another_declaration_loses_none(handler, batch):
    kit = Kit(
        small_agent({"comment.created": handler}, state=[SEEN]),
        partitions=PARTITIONS, batch_records_max=batch, attempts_max=2,
    )  # fmt: skip
    users = FIRST[:400]
    kit.feed(comments(kit, users), partitions=[0] * len(users))
    blocked = kit.then_blocked("partitioner")
    assert 'Topic("user-events", …, partitioner="crc32")' in blocked.message
    assert len(kit.rejections()) == BOUND
    at_home = [user for user in users[: blocked.record.offset] if home(user) == 0]
    assert [event.data["user_id"] for event in kit.events()] == at_home
    [alert] = kit.worker.context.alerts.open.values()
    assert alert["reason"] == "partitioner"
    assert 'partitioner="crc32"' in alert["message"]
    kit.run()
    assert len(kit.rejections()) == BOUND, "its attempts write no error record"


@pytest.mark.parametrize("handler", [counting, counting_later])
def test_a_topic_that_declares_crc32_is_counted_right(handler):
    source = Topic("user-events", partitioner="crc32")
    app = App(catalogue=Catalogue.of([source, topics.comment_counts]), modules=[], contracts=CONTRACTS)
    agent = Agent(app, "small", sources=[source], outputs=[topics.comment_counts], state=[SEEN])
    agent.on("comment.created")(handler)
    kit = Kit(agent, partitions=PARTITIONS)
    kit.feed(comments(kit, FIRST), partitions=[0] * len(FIRST))
    kit.feed(comments(kit, FIRST))  # the kit's own choice is the declared one
    assert {(event.data["user_id"], event.data["count"]) for event in kit.events()} == {
        (user, number) for user in FIRST for number in (1, 2)
    }
    assert all(record.partition == home(int(record.key)) for record in kit.physical_events())
    assert kit.rejections() == []
    kit.feed(comments(kit, [STRAY]), partitions=[home(STRAY)])
    assert "murmur2 puts it here" in kit.then_rejected("WrongPartition").reason


@pytest.mark.parametrize("step", ["publish", "record", "apply", "complete", "after-outputs", "after-changelog"])
def test_a_crash_among_strays_counts_none_of_them_twice(step):
    """A batch is killed and done again. A new process counts anew: then BOUND more, and the next one blocks."""
    kit = Kit(user_events, partitions=PARTITIONS, batch_records_max=10, attempts_max=2)
    users = [user for user in FIRST if home(user) != 0][: BOUND + 1]
    kit.crash(step)
    kit.feed(comments(kit, users), partitions=[0] * len(users))
    kit.run()
    kit.restart()
    assert {int(one.hp["source-offset"]) for one in kit.rejections()} == set(range(BOUND + 1))
    assert len(kit.rejections()) <= BOUND + 1 + 10, "those of the batch that was done again"
    kit.feed(comments(kit, users * 2), partitions=[0] * 2 * len(users))
    assert kit.then_blocked("partitioner").record.offset in (2 * BOUND, 2 * BOUND + 1)


@pytest.mark.parametrize("batch", [7, 1000])
def test_one_hot_key_of_another_client_stops_at_a_bound_too(batch):
    kit = Kit(user_events, partitions=PARTITIONS, batch_records_max=batch, attempts_max=2)
    kit.feed(comments(kit, [STRAY] * 1000), partitions=[by_crc32(STRAY)] * 1000)
    assert f"strays of {RECORDS_BOUND} records in a row" in kit.then_blocked("partitioner").message
    assert len(kit.rejections()) == RECORDS_BOUND


def test_a_topic_that_has_state_is_never_advised_to_declare_another_partitioner():
    """Its counts would begin anew in other partitions."""
    kit = Kit(user_events, partitions=PARTITIONS, attempts_max=2)
    kit.feed(comments(kit, range(1, 50)))
    kit.run()
    kit.feed(comments(kit, FIRST[:400]), partitions=[0] * 400)
    message = kit.then_blocked("partitioner").message
    assert "Topic(" not in message
    assert "set the producers' partitioner to murmur2, see docs/runbook.md" in message


@pytest.mark.parametrize("strays_before", [0, 1, BOUND])
@pytest.mark.parametrize("handler", [counting, counting_later])
def test_a_source_that_gets_more_partitions_goes_on_with_the_records_of_the_new_count(handler, strays_before):
    """The unit asks for the count before a run of strays begins and before it blocks."""
    kit = Kit(small_agent({"comment.created": handler}, state=[SEEN]), partitions=PARTITIONS, attempts_max=2)
    context, asked = kit.worker.context, []
    before = [user for user in FIRST if home(user) != 0][:strays_before]
    kit.feed(comments(kit, before), partitions=[0] * len(before))
    kit.run()
    assert len(kit.rejections()) == len(before)

    async def ask_counts(age_max_s: float) -> None:
        asked.append(age_max_s)
        context.moved.add("user-events")

    context.ask_counts = ask_counts
    grown = [user for user in range(10_000, 10_400) if partition_of(b"%d" % user, PARTITIONS + 1) == 0]
    assert sum(home(user) != 0 for user in grown) > 2 * BOUND
    kit.feed(comments(kit, grown), partitions=[0] * len(grown))
    kit.run()
    assert kit.blocked() is None
    assert len(kit.rejections()) == len(before)
    assert sorted(event.data["user_id"] for event in kit.events()) == grown
    assert len(asked) == 1


def test_a_good_record_between_them_ends_the_run():
    kit = Kit(user_events, partitions=PARTITIONS)
    strays = [user for user in FIRST if home(user) != 0][:90]
    good = next(user for user in count(1) if home(user) == 0 and by_crc32(user) != 0)
    for start in range(0, 90, 18):
        kit.feed(comments(kit, [*strays[start : start + 18], good]), partitions=[0] * 19)
    kit.run()
    assert kit.blocked() is None
    assert len(kit.rejections()) == 90


def test_uuids_in_capitals_and_in_lower_case_are_never_counted_apart_in_silence():
    lower = next(
        text for number in count(1)
        if partition_of((text := f"{number:08x}-1802-417e-89e7-595ad3600104").encode(), PARTITIONS)
        != partition_of(text.upper().encode(), PARTITIONS) and text != text.upper()
    )  # fmt: skip
    kit = Kit(user_events, partitions=PARTITIONS)
    kit.feed(comments(kit, [lower] * 5))
    kit.feed(comments(kit, [lower.upper()] * 5))
    for number in range(1, 6):
        kit.then_event("comment.counted", {"user_id": lower, "count": number})
    for _ in range(5):
        assert "keys that are UUIDs are written in lower case" in kit.then_rejected("WrongPartition").reason
    kit.then_nothing_else()
    kit.feed(comments(kit, [lower.upper()]), partitions=[partition_of(lower.encode(), PARTITIONS)])
    kit.then_event("comment.counted", {"user_id": lower.upper(), "count": 6})


def test_the_first_users_of_the_other_partitioner_are_no_strays_of_an_agent_that_leaves_it_open():
    source = Topic("user-events", partitioner="any")
    app = App(catalogue=Catalogue.of([source]), modules=[], contracts=CONTRACTS)
    seen = []
    agent = Agent(app, "small", sources=[source])
    agent.on("comment.created")(lambda event: seen.append(event.key) or [])
    kit = Kit(agent, partitions=PARTITIONS)
    kit.feed(comments(kit, islice(FIRST, 100)), partitions=[0] * 100)
    kit.then_nothing_else()
    assert len(seen) == 100
