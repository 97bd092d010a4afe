"""Marks and derived msg_ids (D3, D9, O3)."""

from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.idempotence import content_digest, derived_msg_id, mark_key, mark_value, new_msg_id, same_content

NAMES = st.text(alphabet=st.characters(codec="utf-8"), max_size=8)


@given(st.uuids(), NAMES, NAMES)
def test_a_derived_msg_id_is_the_standard_uuid5(msg_id, agent, output):  # O3, D9
    assert derived_msg_id(str(msg_id), agent, output) == str(uuid5(msg_id, f"{agent}/{output}"))
    assert derived_msg_id(str(msg_id).upper(), agent, output) == derived_msg_id(str(msg_id), agent, output)


@given(st.binary(min_size=16, max_size=16))
def test_a_new_msg_id_is_a_version_4_uuid(random_bytes):
    assert UUID(new_msg_id(random_bytes)).version == 4


BODIES = st.dictionaries(st.text(max_size=3), st.integers(-9, 9) | st.text(max_size=3) | st.booleans(), max_size=3)


@given(st.text(max_size=3), BODIES, BODIES)
def test_two_bodies_have_one_digest_only_when_they_are_the_same(type_, one, other):  # D3
    same = {name: (type(value), value) for name, value in one.items()} == {
        name: (type(value), value) for name, value in other.items()
    }
    assert (content_digest(type_, one) == content_digest(type_, other)) == same


def test_the_order_of_fields_does_not_matter_and_the_type_does():
    assert content_digest("t", {"a": 1, "b": 2}) == content_digest("t", {"b": 2, "a": 1})
    assert content_digest("t", {}) != content_digest("u", {})


@given(st.integers(-1, 2**63 - 1), BODIES)
def test_a_mark_holds_time_and_content(timestamp_ms, body):
    digest = content_digest("t", body)
    mark = mark_value(timestamp_ms, digest)
    assert len(mark) == 24
    assert same_content(mark, digest)
    assert not same_content(mark, bytes(16))
    assert int.from_bytes(mark[:8], "big") == max(timestamp_ms, 0)


def test_a_mark_belongs_to_one_key_and_one_msg_id():
    assert len({mark_key("1", "a"), mark_key("2", "a"), mark_key("1", "b"), mark_key("1\0a", "b")}) == 4
