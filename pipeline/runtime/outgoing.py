"""What outcomes amount to outside the unit: records to publish and rows for SQL."""

from collections.abc import Iterable, Sequence

from pipeline.core.agent import Definition
from pipeline.core.effects import Upsert
from pipeline.core.error_record import Failing, audit_record, error_record
from pipeline.core.outcome import Applied, Conflict, Duplicate, Outcome, Rejected
from pipeline.core.record import Outbound, Record
from pipeline.runtime.context import Context


def outgoing(
    outcomes: Iterable[Outcome], context: Context, agent: Definition, attempts: int, first_failed_ms: int | None
) -> list[Outbound]:
    """Outputs, error records and audit records, in the order of the records that they come from."""
    out: list[Outbound] = []
    now_ms = context.now_ms()
    for outcome in outcomes:
        kind = type(outcome)
        if kind is Applied:
            out.extend(outcome.outputs)  # type: ignore[union-attr]  # narrowed by exact type, for speed
            if outcome.audits:  # type: ignore[union-attr]
                out.extend(_audits(outcome, context, agent, now_ms))  # type: ignore[arg-type]
        elif kind is Rejected:
            out.append(_error(outcome, context, agent, now_ms, attempts, first_failed_ms))  # type: ignore[arg-type]
        elif kind is Conflict or (kind is Duplicate and agent.audit_repeats):
            out.append(_repeat(outcome, context, agent, now_ms))  # type: ignore[arg-type]
    return out


def upserts_of(outcomes: Iterable[Outcome]) -> tuple[list[Upsert], Sequence[Applied]]:
    """SQL rows in order, and for each the event that it comes from."""
    upserts: list[Upsert] = []
    origins: list[Applied] = []
    for outcome in outcomes:
        if type(outcome) is Applied and outcome.upserts:
            upserts.extend(outcome.upserts)
            origins.extend([outcome] * len(outcome.upserts))
    return upserts, origins


def _failing(context: Context, agent: Definition, topic: str) -> Failing:
    return Failing(context.app_id, agent.name, context.app_version, topic)


def _error(
    outcome: Rejected, context: Context, agent: Definition, now_ms: int, attempts: int, first_failed_ms: int | None
) -> Outbound:
    record = outcome.record
    failing = _failing(context, agent, record.topic)
    limit = context.limits.record_bytes(context.errors_topic)
    topic = context.errors_topic
    return error_record(record, outcome.rejection, failing, topic, now_ms, limit, attempts, first_failed_ms)


def _repeat(outcome: Conflict | Duplicate, context: Context, agent: Definition, now_ms: int) -> Outbound:
    kind = "conflict" if type(outcome) is Conflict else "repeat"
    failing = _failing(context, agent, outcome.record.topic)
    fields = {"msg_id": outcome.event.msg_id, "type": outcome.event.type}
    return _audit(kind, outcome.record, failing, fields, context, now_ms)


def _audits(outcome: Applied, context: Context, agent: Definition, now_ms: int) -> list[Outbound]:
    failing = _failing(context, agent, outcome.record.topic)
    return [
        _audit(audit.kind, outcome.record, failing, dict(audit.fields), context, now_ms) for audit in outcome.audits
    ]


def _audit(
    kind: str, record: Record, failing: Failing, fields: dict[str, str], context: Context, now_ms: int
) -> Outbound:
    topic = context.audit_topic
    return audit_record(topic, kind, record, failing, fields, now_ms, context.limits.record_bytes(topic))
