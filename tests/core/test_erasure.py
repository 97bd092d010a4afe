"""Which rows are a key's own, who is asked first, and until when the rest is kept (D10)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.notification_sender import notification_sender
from agents.read_model import read_model
from agents.user_events import user_events
from pipeline.core.erasure import MARKS_TABLE, claims_of, kept_until_ms, of_key, upstream_first
from pipeline.core.idempotence import mark_key
from pipeline.core.state import State

KEYS = st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=4)
DEFINITION = user_events.definition


def is_own(table: str, key: str, row: bytes) -> bool:
    own, prefix = of_key(DEFINITION, key)[table]
    return row == own or row.startswith(prefix)


@given(KEYS, KEYS, st.none() | KEYS)
def test_a_row_is_erased_with_its_own_key_and_with_no_other(key, asked, sub_key):
    state = State(key, {}, {}.get)
    for table in ("comments", "follows"):
        assert is_own(table, asked, state.row(table.encode(), sub_key)) == (key == asked)
    assert is_own(MARKS_TABLE, asked, mark_key(key, "8700635f-1802-417e-89e7-595ad3600104")) == (key == asked)


def test_every_view_and_the_marks_are_looked_at_and_claims_go_with_the_marks():
    assert set(of_key(DEFINITION, "1")) == {"comments", "follows", MARKS_TABLE}
    sender = notification_sender.definition
    assert set(of_key(sender, "1")) == {MARKS_TABLE}
    assert list(claims_of(mark_key("1", "some-id"), sender.views)) == [("mail-claims", b"mail-claims\0some-id")]
    assert list(claims_of(mark_key("1", "some-id"), DEFINITION.views)) == []


@pytest.mark.parametrize("given_order", [0, 1, 2])
def test_who_writes_a_topic_is_asked_before_who_reads_it(given_order):
    agents = [read_model.definition, DEFINITION, notification_sender.definition]
    ordered = upstream_first(agents[given_order:] + agents[:given_order])
    assert ordered[0] is DEFINITION
    assert sorted(one.name for one in ordered) == ["notification-sender", "read-model", "user-events"]


@pytest.mark.parametrize(
    ("config", "until_ms"),
    [
        ({"retention.ms": "1000", "segment.ms": "50"}, 1_150),
        ({"retention.ms": "1000", "cleanup.policy": "compact, delete"}, 1_100),
        ({"retention.ms": "-1"}, None),
        ({"retention.ms": "1000", "cleanup.policy": "compact"}, None),
        ({}, None),
    ],
)
def test_a_record_stays_for_its_retention_and_until_its_segment_is_closed(config, until_ms):
    assert kept_until_ms(100, config) == until_ms
