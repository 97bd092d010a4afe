"""The demo's independent count and verdict: right on what is right, and not to be fooled."""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid5

import pytest

from pipeline.contracts.catalogue import load_contracts
from pipeline.core.contract import Refused
from pipeline.demo.count import Came, Count, count
from pipeline.demo.generate import POISONS, Generator
from pipeline.demo.readback import Found
from pipeline.demo.verdict import MARK, judge
from pipeline.demo.view import adds_up, sentence

CONTRACTS = Path(__file__).parents[2] / "agents" / "contracts"
EVENTS = 3000


def lying(events: int, seed: int = 7) -> list[Came]:
    """The generated records as one partition of each topic has them."""
    offsets: dict[str, int] = defaultdict(int)
    records = []
    for sent in Generator(seed).records(events):
        records.append(Came(sent.topic, 0, offsets[sent.topic], sent.key, sent.value))
        offsets[sent.topic] += 1
    return records


def came_out(must: Count, inputs: list[Came]) -> Found:
    """What a pipeline without a fault leaves behind."""
    outputs = {
        topic: [
            Came(topic, 0, offset, event.key.encode(), dumped(event.msg_id, event.type, event.data))
            for offset, event in enumerate(must.outputs[topic])
        ]
        for topic in ("comment-counts", "messages", "notifications")
    }
    errors = [
        Came("e", 0, number, wrong.key, wrong.value, headers(wrong))
        for number, wrong in enumerate(must.errors.values())
    ]
    conflicts = [{"kind": "conflict", "topic": t, "partition": p, "offset": o} for t, p, o in must.conflicts]
    audits = [Came("a", 0, number, b"", json.dumps(body).encode()) for number, body in enumerate(conflicts)]
    marks = [Came("c", 0, 0, MARK + f"{user}\0{msg_id}".encode(), b"1") for user, msg_id in must.applied]
    return Found(inputs, outputs, errors, audits, marks, dict(must.comment_counts), dict(must.messages))


def dumped(msg_id: str, type_: str, data: dict[str, object]) -> bytes:
    return json.dumps({"msg_id": msg_id, "type": type_, "data": data}).encode()


def headers(wrong: Came) -> tuple[tuple[str, bytes], ...]:
    topic, partition, offset = wrong.place
    return (
        ("hp-source-topic", topic.encode()),
        ("hp-source-partition", b"%d" % partition),
        ("hp-source-offset", b"%d" % offset),
    )


@pytest.fixture
def inputs() -> list[Came]:
    return lying(EVENTS)


@pytest.fixture
def must(inputs: list[Came]) -> Count:
    return count(inputs)


def test_the_same_seed_feeds_the_same_and_another_one_something_else() -> None:
    assert lying(500, seed=1) == lying(500, seed=1) != lying(500, seed=2)


def test_every_record_is_applied_or_a_duplicate_or_an_error(must: Count) -> None:
    assert must.records == EVENTS
    assert len(must.applied) + must.duplicates + len(must.errors) == EVENTS
    assert 0 < len(must.conflicts) < must.duplicates
    assert len(must.errors) > len(POISONS), "each kind of poison, and Bobby"
    assert 0 < len(must.messages) < len(must.outputs["notifications"])


def test_the_count_and_the_contracts_agree_about_every_record(inputs: list[Came], must: Count) -> None:
    contracts = load_contracts(CONTRACTS)
    for record in inputs:
        decoded = contracts[record.topic].decode(record.value)
        key_is_another = not isinstance(decoded, Refused) and str(decoded.data["user_id"]).encode() != record.key
        assert (isinstance(decoded, Refused) or key_is_another) == (record.place in must.errors), record


def test_a_message_is_accepted_only_while_its_sender_follows() -> None:
    def event(offset: int, number: int, type_: str, **data: object) -> Came:
        msg_id = f"00000000-0000-4000-8000-{number:012}"
        return Came("user-events", 0, offset, b"1", dumped(msg_id, type_, {"user_id": 1, **data}))

    must = count(
        [
            event(0, 1, "message.sent", to=2, msg="too early"),
            event(1, 2, "user.followed", followee_id=2),
            event(2, 3, "message.sent", to=2, msg="now"),
            event(3, 3, "message.sent", to=2, msg="now"),
            event(4, 4, "user.unfollowed", followee_id=2),
            event(5, 5, "message.sent", to=2, msg="too late"),
            event(6, 3, "message.sent", to=2, msg="something else"),
        ]
    )
    derived = str(uuid5(UUID("00000000-0000-4000-8000-000000000003"), "user-events/message-accepted"))
    assert must.messages == {derived: ("1", "2", "now")}
    assert [event.data["text"] for event in must.outputs["notifications"]] == [
        "message to 2 refused: not following",
        "user 1 follows you",
        "message to 2 refused: not following",
    ]
    assert (must.duplicates, must.conflicts) == (2, {("user-events", 0, 6)})


def test_what_came_out_right_adds_up(inputs: list[Came], must: Count) -> None:
    rows = judge(must, came_out(must, inputs), EVENTS)
    assert adds_up(rows), rows
    assert {row.name: row.found for row in rows}["duplicates"] == must.duplicates


def test_outputs_and_error_records_sent_again_after_a_crash_still_add_up(inputs: list[Came], must: Count) -> None:
    did = came_out(must, inputs)
    again = {topic: records + records[-50:] for topic, records in did.outputs.items()}
    rows = judge(must, replace(did, outputs=again, errors=did.errors + did.errors[:3]), EVENTS)
    assert adds_up(rows), rows
    assert "50 sent again" in next(row.note for row in rows if row.name == "out: comment-counts")


def lose_an_output(did: Found) -> None:
    did.outputs["messages"].pop()


def count_twice(did: Found) -> None:
    """A recount under a new id, as without derived ids."""
    last = did.outputs["comment-counts"][-1]
    event = json.loads(last.value or b"")
    event["msg_id"] = "00000000-0000-5000-8000-000000000000"
    did.outputs["comment-counts"].append(last._replace(value=json.dumps(event).encode()))


def show_another_count(did: Found) -> None:
    records = did.outputs["comment-counts"]
    event = json.loads(records[5].value or b"")
    event["data"]["count"] += 1
    records[5] = records[5]._replace(value=json.dumps(event).encode())


def repeat_with_other_data(did: Found) -> None:
    did.outputs["notifications"].append(did.outputs["notifications"][0]._replace(key=b"somebody else"))


def swap_two_of_a_user(did: Found) -> None:
    records = did.outputs["comment-counts"]
    first = records[0]
    later = next(number for number, record in enumerate(records) if number and record.key == first.key)
    records[0], records[later] = records[later], first


def lose_an_error(did: Found) -> None:
    did.errors.pop()


def lose_a_byte_of_an_error(did: Found) -> None:
    did.errors[0] = did.errors[0]._replace(value=(did.errors[0].value or b"")[:-1])


def reject_a_good_record(did: Found) -> None:
    did.errors.append(did.errors[0]._replace(headers=headers(Came("user-events", 0, 10**6, b"", b""))))


def forget_a_mark(did: Found) -> None:
    did.changelog.pop()


def hide_a_conflict(did: Found) -> None:
    did.audits.pop()


def lose_a_row(did: Found) -> None:
    did.messages.popitem()


def change_a_row(did: Found) -> None:
    user = next(iter(did.comment_counts))
    did.comment_counts[user] += 1


@pytest.mark.parametrize(
    ("tamper", "row"),
    [
        (lose_an_output, "out: messages"), (count_twice, "out: comment-counts"),
        (show_another_count, "out: comment-counts"), (repeat_with_other_data, "out: notifications"),
        (swap_two_of_a_user, "out: comment-counts"), (lose_an_error, "errors"), (lose_a_byte_of_an_error, "errors"),
        (reject_a_good_record, "errors"), (forget_a_mark, "applied"), (hide_a_conflict, "· conflicts"),
        (lose_a_row, "SQL messages"), (change_a_row, "SQL comment_counts"),
    ],
)  # fmt: skip
def test_it_does_not_add_up_when(tamper: Callable[[Found], None], row: str, inputs: list[Came], must: Count) -> None:
    did = came_out(must, inputs)
    tamper(did)
    rows = judge(must, did, EVENTS)
    assert row in [one.name for one in rows if one.trouble]
    assert not adds_up(rows)
    assert sentence(rows).startswith("It does NOT add up: ")


def test_it_does_not_add_up_when_a_confirmed_record_is_not_on_the_topic(inputs: list[Came], must: Count) -> None:
    rows = judge(must, came_out(must, inputs), EVENTS + 1)
    assert [row.name for row in rows if row.trouble] == ["in"]
