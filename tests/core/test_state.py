"""State is read through what the batch and the event have written; an event's writes are its savepoint."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.state import State

ROWS = st.dictionaries(st.sampled_from([b"a", b"b", b"c"]), st.none() | st.binary(max_size=2))


@given(ROWS, ROWS, ROWS)
def test_the_latest_write_is_read_and_only_the_events_own_are_its_savepoint(stored, pending, writes):
    state = State("1", dict(pending), stored.get)
    for row, value in writes.items():
        if value is None:
            state.delete(row)
        else:
            state.put(row, value)
    for row in (b"a", b"b", b"c"):
        assert state.get(row) == {**stored, **pending, **writes}.get(row)
    assert state.writes == writes


def test_a_row_names_view_key_and_sub_key():
    state = State("1", {}, {}.get)
    assert state.row(b"v") == b"v\x001"
    assert state.row(b"v", "2") == b"v\x001\x002"


KEYS = st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"), max_size=4)


@given(KEYS, KEYS, st.none() | KEYS, st.none() | KEYS)
def test_rows_of_different_keys_never_mix(one, other, sub_one, sub_other):
    rows = [State(key, {}, {}.get).row(b"v", sub) for key, sub in ((one, sub_one), (other, sub_other))]
    assert (rows[0] == rows[1]) == ((one, sub_one) == (other, sub_other))
