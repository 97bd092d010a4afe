"""The oracle's own verdict on input records, its partitioner, and the records that its generator draws."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import pytest

from tests.oracle.generator import Made, Mix, generate
from tests.oracle.journal import Journal, Written
from tests.oracle.poison import WAYS, Draft, Way
from tests.oracle.records import Record, murmur2, partition_of
from tests.oracle.small_engine import placed
from tests.oracle.validity import Invalid, as_event

ID = "8700635f-1802-417e-89e7-595ad3600104"
GOOD = f'{{"msg_id":"{ID}","type":"comment.created","data":{{"user_id":7,"msg":"hi"}}}}'


def judged(value: str | bytes | None, key: bytes | None = b"7", topic: str = "user-events") -> str:
    record = Record(topic, 0, 0, key, value.encode() if isinstance(value, str) else value)
    try:
        return as_event(record).type
    except Invalid:
        return "invalid"


@pytest.mark.parametrize(
    "value",
    [
        GOOD,
        f" \r\n\t{GOOD} ",
        GOOD.replace(ID, ID.upper()),
        GOOD.replace('"hi"', '""'),
        GOOD.replace("hi", "\\ud83e\\udd86\\u0000"),
        GOOD.replace('"msg":', '"other":{"n":-1.5e3},"msg":'),
        GOOD[:-1] + ',"meta":{},"more":[9223372036854775807,-9223372036854775808]}',
    ],
)
def test_good_events_are_valid(value: str) -> None:
    assert judged(value) == "comment.created"


def test_keys_compare_in_lower_case() -> None:  # D3
    value = GOOD.replace('"user_id":7', f'"user_id":"{ID.upper()}"')
    assert [judged(value, key.encode()) for key in (ID, ID.upper(), ID[:-1])] == ["comment.created"] * 2 + ["invalid"]


@pytest.mark.parametrize("way", WAYS, ids=[str(number) for number in range(len(WAYS))])
def test_every_kind_of_poison_is_invalid_and_its_draft_was_not(way: Way) -> None:
    for user in ("7", f'"{ID[:-1]}5"'):
        key = user.strip('"').encode()
        draft = Draft(key, user, ID)
        assert judged(draft.event(), key) == "comment.created"
        spoilt = way(draft, Random(1))
        assert judged(spoilt.value, spoilt.key) == judged(spoilt.value, spoilt.key, "team-events") == "invalid", spoilt
        assert not spoilt.reusable or ID.encode() in (spoilt.value or b"")


@pytest.mark.parametrize(
    ("key", "hashed"), [(b"21", -973932308), (b"foobar", -790332482), (b"abc", 479470107), (b"", 275646681)]
)
def test_murmur2_is_the_java_clients(key: bytes, hashed: int) -> None:  # O1
    assert murmur2(key) == hashed % 2**32
    assert [partition_of(b"abc", n) for n in (5, 6)] == [2, 3]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    mix = Mix(events=500)
    assert list(generate(3, mix)) == list(generate(3, mix)) != list(generate(4, mix))


def test_the_mix_is_what_was_asked_for() -> None:
    mix = Mix(events=20_000, users=200, duplicates=0.05, poison=0.01, conflicts=0.01)
    made = list(generate(5, mix))
    kinds = Counter("poison" if m.kind.startswith("poison") else m.kind for m in made)
    assert len(made) == mix.events
    assert 0.8 * 1000 < kinds["duplicate"] < 1.2 * 1000
    assert 0.7 * 200 < kinds["poison"] < 1.3 * 200
    assert 0.7 * 200 < kinds["conflict"] < 1.3 * 200
    assert all(
        kinds[kind] > 500
        for kind in ("comment.created", "user.followed", "user.unfollowed", "message.sent", "team.joined")
    )
    assert len({m.kind for m in made if m.kind.startswith("poison")}) > 35
    valid = [m for m in made if not m.kind.startswith("poison")]
    assert {judged(m.value, m.key, m.topic) for m in valid} == set(kinds) - {"poison", "duplicate", "conflict"}


def test_a_journal_names_the_acknowledged_records_that_are_gone() -> None:
    made = [Made("user-events", b"7", json.dumps(n).encode(), (), "comment.created") for n in range(4)]
    topics = placed(made, 1)
    journal = Journal(1)
    journal.note(Written("user-events", 0, 0, made[:2]))
    journal.note(Written("user-events", 0, None, [made[3]]))
    journal.note(Written("user-events", 0, 2, made[2:3]))
    assert (journal.acked, journal.unknown) == (3, 1)
    assert journal.missing_from(topics) == []
    del topics["user-events"][0][1]
    (missing,) = journal.missing_from(topics)
    assert missing.startswith("user-events/0@1")
