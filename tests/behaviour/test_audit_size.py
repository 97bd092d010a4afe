"""An audit record that its topic wouldn't take must not hold up the partition: it goes without the key."""

import json

import pytest

from pipeline.core.event import Event, ReadOnly
from pipeline.core.outcome import Conflict, Duplicate
from pipeline.core.record import StoredRecord
from pipeline.core.settle import Limits
from pipeline.runtime.outgoing import outgoing
from tests.behaviour.small_agent import small_agent

LIMIT = 16_000
MSG_ID = "8700635f-1802-417e-89e7-595ad3600104"


@pytest.mark.parametrize("kind", [Conflict, Duplicate])
@pytest.mark.parametrize("key_bytes", [10, 15_000, 20_000, 500_000])
def test_an_audit_record_fits_its_topic(kind: type[Conflict] | type[Duplicate], key_bytes: int) -> None:
    agent = small_agent(audit_repeats=True)
    context = agent.app.context
    context.limits = Limits(record_bytes_max={context.audit_topic: LIMIT})
    key = "k" * key_bytes
    record = StoredRecord("user-events", 0, 7, 1, key.encode(), b"{}")
    event = Event(MSG_ID, "comment.created", key, ReadOnly({}), None, "user-events", 0, 7, 1, None)
    (audit,) = outgoing([kind(record, event)], context, agent.definition, 1, None)
    assert audit.size_bytes() <= LIMIT
    assert audit.key == (key.encode() if key_bytes <= 15_000 else None)
    assert json.loads(audit.value or b"")["msg_id"] == MSG_ID
