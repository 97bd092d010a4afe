"""Typed views: what handlers see, what tables show, how many rows it takes (D2, D5)."""

from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import Misconfigured, Reject
from pipeline.core.state import State
from pipeline.core.views import Claims, Counter, MsgIdSet, Relation

IDS = st.lists(st.sampled_from(["i1", "i2", "i3", "i4"]), max_size=12)


@given(IDS)
def test_a_msg_id_set_counts_the_ids_of_the_events_that_were_applied(ids):  # D2
    rows: dict[bytes, bytes | None] = {}
    counts = []
    for msg_id in dict.fromkeys(ids):  # the engine calls no handler for a msg_id that has a mark
        state = State("1", {}, rows.get, msg_id)
        counts += [MsgIdSet("comments").of(state).add(msg_id), MsgIdSet("comments").of(state).add(msg_id)]
        rows.update(state.writes)
        assert state.sets == ["comments"]  # what the mark will say
    assert counts == [count for count in range(1, len(set(ids)) + 1) for _ in range(2)]
    assert MsgIdSet("comments").of(State("1", {}, rows.get)).cardinality() == len(set(ids))
    assert MsgIdSet("comments").of(State("2", {}, rows.get)).cardinality() == 0


@pytest.mark.parametrize("known", [0, 10, 10_000])
def test_adding_an_id_reads_and_writes_the_same_however_many_there_are(known):  # D5
    rows: dict[bytes, bytes] = {}
    rows[b"comments\x001"] = b"%d" % known
    reads: list[bytes] = []

    def stored(row: bytes) -> bytes | None:
        reads.append(row)
        return rows.get(row)

    state = State("1", {}, stored, "new")
    assert MsgIdSet("comments").of(state).add("new") == known + 1
    assert (len(reads), len(state.writes)) == (1, 1)
    assert sum(len(row) + len(value or b"") for row, value in state.writes.items()) < 60


def test_a_msg_id_set_refuses_another_id_than_the_events():
    with pytest.raises(ValueError, match="event in hand"):
        MsgIdSet("comments").of(State("1", {}, {}.get, "mine")).add("another")


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3)), max_size=12))
def test_a_relation_is_what_was_added_and_not_removed_since(acts):
    follows, rows, expected = Relation("follows"), {}, set()
    for add, other in acts:
        state = State("1", {}, rows.get)
        (follows.of(state).add if add else follows.of(state).remove)(other)
        rows.update(state.writes)
        (expected.add if add else expected.discard)(other)
    related = follows.of(State("1", {}, rows.get))
    assert {other for other in (1, 2, 3) if related.has(other)} == expected
    assert related.has("1") == related.has(1)


@pytest.mark.parametrize("other", ["a\0b", "x" * 1001])
def test_a_related_key_that_makes_no_row_is_the_records_fault(other):
    with pytest.raises(Reject):
        Relation("follows").of(State("1", {}, {}.get)).add(other)


def test_a_counter_holds_what_was_set():
    state = State("1", {}, {}.get)
    count = Counter("seen").of(state)
    assert count.get() == 0
    count.set(-7)
    assert count.get() == -7
    assert state.writes == {b"seen\x001": b"-7"}


@pytest.mark.parametrize("kind", [MsgIdSet, Counter, Relation, Claims])
@pytest.mark.parametrize("name", ["", "_marks", "a.b", "a\0b"])
def test_a_name_that_would_mix_with_other_rows_is_refused(kind, name):
    with pytest.raises(Misconfigured, match="a view's name"):
        kind(name)


@pytest.mark.parametrize(
    ("view", "row", "value", "key", "shown"),
    [
        (MsgIdSet("comments"), b"comments\x001", b"12", "1", 12),
        (Counter("seen"), b"seen\x001", b"3", "1", 3),
        (Relation("follows"), b"follows\x001\x002", b"1", "1/2", True),
        (Claims("mail-claims"), b"mail-claims\x00id", b"claimed life-1", "id", "claimed"),
        (Claims("mail-claims"), b"mail-claims\x00id", b"in_doubt", "id", "in doubt"),
        (Claims("mail-claims"), b"mail-claims\x00id", b"done", "id", "done"),
    ],
)
def test_rows_are_shown_to_people_and_found_again(view, row, value, key, shown):
    assert (view.show_key(row), view.show_value(value)) == (key, shown)
    assert view.row_of(key) == row
    assert row.startswith(view.prefix)


@pytest.mark.parametrize("value", [2.9, 2.0, float("nan"), True, "2", None, Decimal(2)])
def test_a_counter_takes_whole_numbers_and_nothing_else(value):
    state = State("1", {}, {}.get)
    with pytest.raises(TypeError, match="a counter takes an int"):
        Counter("seen").of(state).set(value)
    assert state.writes == {}


@pytest.mark.parametrize("other", [2.9, 2.0, float("nan"), True, None, b"2", Decimal(2), ("a",)])
@pytest.mark.parametrize("call", ["add", "remove", "has"])
def test_a_relation_takes_numbers_and_text_and_nothing_else(call, other):
    state = State("1", {}, {}.get)
    with pytest.raises(TypeError, match="a related key is an int or text"):
        getattr(Relation("follows").of(state), call)(other)
    assert state.writes == {}


def test_a_msg_id_set_says_that_an_id_is_text():
    with pytest.raises(TypeError, match="as text"):
        MsgIdSet("comments").of(State("1", {}, {}.get, "i1")).add(UUID(int=1))
