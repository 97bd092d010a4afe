"""An event shows what came in and can't be changed (D7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.event import Event, ReadOnly, event_class_of, read_only

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Comment(Event):
    msg: str
    tags: list[str]
    missing: str | None


def make(data: dict[str, object], kind: type[Event] = Comment) -> Event:
    return kind("id", "t", "1", ReadOnly(data), None, "topic", 0, 7, 9, None)


def test_a_named_field_reads_the_data():
    event = make({"msg": "x", "tags": ["a", {"b": [1]}]})
    assert (event.msg, event.missing, event.offset, event.timestamp_ms) == ("x", None, 7, 9)
    assert event.tags == ("a", {"b": [1]})
    assert event.tags[1]["b"] == (1,)


@pytest.mark.parametrize("name", ["msg_id", "data", "offset", "new"])
def test_no_attribute_of_an_event_can_be_set(name):
    with pytest.raises((AttributeError, TypeError)):
        setattr(make({}, Event), name, 1)


def test_a_field_named_like_one_of_every_event_is_refused_where_it_is_declared():
    with pytest.raises(TypeError, match="every event has a field of that name"):

        class Wrong(Event):
            topic: str


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_what_is_read_equals_what_came_in_and_shares_nothing_that_changes(data):
    def changeable(value: object) -> bool:
        if isinstance(value, ReadOnly):
            return any(changeable(inner) for inner in value.values())
        if isinstance(value, tuple):
            return any(changeable(inner) for inner in value)
        return isinstance(value, dict | list)

    view = ReadOnly(data)
    assert view == data
    assert len(view) == len(data)
    assert not any(changeable(value) for value in view.values())
    assert view.mutable() is data


def test_a_scalar_stays_what_it_is():
    assert read_only(5) == 5
    assert read_only([1, [2]]) == (1, (2,))


def test_the_event_class_of_a_handler_is_its_annotation():
    def typed(event: Comment) -> None: ...
    def untyped(event): ...
    def nothing() -> None: ...

    assert [event_class_of(handler) for handler in (typed, untyped, nothing)] == [Comment, Event, Event]
