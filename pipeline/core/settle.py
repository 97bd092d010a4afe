"""Steps 3 and 4: is this candidate new, and what do the effects of its handler amount to."""

from collections.abc import Awaitable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from types import GeneratorType

from pipeline.core.agent import Definition
from pipeline.core.contract import Contract
from pipeline.core.effects import EFFECTS, Audit, Effect, Outside, Publish, Upsert
from pipeline.core.errors import Blocking, Reject
from pipeline.core.event import ReadOnly
from pipeline.core.event_time import DAY_MS, EVENT_TIME, output_time
from pipeline.core.failure import class_of, describe, lines, name, part, said, stack_of
from pipeline.core.idempotence import derived_msg_id, mark_value, same_content
from pipeline.core.outcome import Applied, Blocked, Candidate, Conflict, Duplicate, Rejected, Rejection
from pipeline.core.record import Outbound, Record
from pipeline.core.state import State
from pipeline.core.tables import Tables
from pipeline.core.views import Claims

_NO_HEADERS: list[tuple[str, bytes]] = []
new = tuple.__new__
"""Makes a named tuple in half the time of its constructor; this is the inner loop of a worker."""
NO_TABLES = Tables()
BUG = "bug"
"""The reason of a record that blocks because its handler failed."""
ROW_OVERHEAD_BYTES = 32
CLAIM_BYTES_MAX = 128


@dataclass(frozen=True, slots=True)
class Limits:
    """What the broker takes, in bytes: one record with its batch's overhead, per topic; and one event's rows.

    ages_ms: topic → how old an output on it may be, of those that take or keep less than a day.
    """

    rows_bytes_max: int = 900_000
    record_bytes_max: Mapping[str, int] | None = None
    record_bytes_default: int = 1_000_000
    small_bytes: int = 4_096  # values below this fit every topic and need no exact sizing
    ages_ms: Mapping[str, int] | None = None
    age_ms_small: int = DAY_MS  # outputs younger than this are fine for every topic

    @property
    def tight(self) -> Mapping[str, int]:
        """topic → bytes, of the topics that take less than the default."""
        known = self.record_bytes_max or {}
        return {topic: size for topic, size in known.items() if size < self.record_bytes_default}

    def record_bytes(self, topic: str) -> int:
        """Largest record that fits into `topic`."""
        return (self.record_bytes_max or {}).get(topic, self.record_bytes_default)

    def age_ms(self, topic: str) -> int:
        """How old an output on `topic` may be."""
        return (self.ages_ms or {}).get(topic, DAY_MS)


def already_seen(candidate: Candidate, mark: bytes | None) -> Duplicate | Conflict | None:
    """Step 3: what the mark under this candidate's key and msg_id says; None for a new message."""
    if mark is None:
        return None
    if same_content(mark, candidate.digest):
        return Duplicate(candidate.record, candidate.event)
    return Conflict(candidate.record, candidate.event)


def conclude(
    candidate: Candidate,
    effects: Iterable[Effect] | None,
    state: State,
    agent: Definition,
    contracts: Mapping[str, Contract],
    limits: Limits,
    now_ms: int = 0,
    tables: Tables = NO_TABLES,
) -> Applied:
    """The handler's effects and writes as outputs and rows; raises Reject when they don't fit the broker.

    now_ms: the worker's clock. For the mark: a record that is old when it is applied is remembered as long as others;
    and for the outputs of a record with a time that the broker wouldn't take or keep.
    tables: of the SQL read model.

    All that the later steps take from the handler is judged here, so that a bad effect is a bug of the handler and they
    can't fail on it. What raises (any exception; `failed` says what it means):

    - a result that is neither None nor an iterable of effects: a text, a number, a dict, one effect without a list, a
      coroutine of a handler that isn't `async`; None among the effects; whatever a generator raises midway
    - Publish: a topic that isn't among the agent's outputs; data that its contract or JSON doesn't take: NaN, keys that
      aren't text, lone surrogates, integers beyond 64 bits, nesting too deep, objects
    - Upsert: a table or column that the read model doesn't declare, the primary key or a needed column left out,
      `greatest` of something else than a written column, NaN. What the database doesn't take shows when it is written:
      see pipeline.runtime.refusals
    - Audit, Outside: parts of the wrong type. Texts of an Audit may be anything; they are made printable and cut
    """
    if effects is not None and (kind := type(effects)) is not list and kind is not GeneratorType:
        _require_effects(effects)
    event = candidate.event
    outputs: list[Outbound] = []
    others: list[Effect] = []
    for position, effect in enumerate(effects or ()):
        if type(effect) is Publish:
            outputs.append(_outbound(candidate, effect, position, agent, contracts, limits, now_ms))
        else:
            others.append(effect)
    upserts, audits, outside = _sorted(others, agent, tables) if others else _NO_OTHERS
    writes = state.writes
    writes[candidate.mark] = mark_value(max(event.timestamp_ms, now_ms), candidate.digest, state.sets)
    rows = tuple(writes.items())
    size = ROW_OVERHEAD_BYTES * len(rows)
    for key, value in rows:  # a sum over a generator would cost twice as much
        size += len(key)
        if value is not None:
            size += len(value)
    if outside:  # each has a row when it is done
        size += sum(len(one.view) + CLAIM_BYTES_MAX for one in outside)
    if size > limits.rows_bytes_max:
        raise Reject(
            f"its {len(rows)} rows of state take {size} bytes, more than {limits.rows_bytes_max} fit in a batch"
        )
    return new(Applied, (candidate.record, event, rows, tuple(outputs), upserts, audits, outside))


Others = tuple[tuple[Upsert, ...], tuple[Audit, ...], tuple[Outside, ...]]
_NO_OTHERS: Others = ((), (), ())


def _sorted(effects: Iterable[Effect], agent: Definition, tables: Tables) -> Others:
    """Effects that aren't published, by kind."""
    upserts: list[Upsert] = []
    audits: list[Audit] = []
    outside: list[Outside] = []
    for effect in effects:
        if isinstance(effect, Upsert):
            upserts.append(tables.fitted(effect))
        elif isinstance(effect, Audit):
            audits.append(Audit(*effect))
        elif isinstance(effect, Outside):
            outside.append(_claimable(Outside(*effect), outside, agent))
        else:
            raise TypeError(f"a handler returns effects, not {type(effect).__name__}")
    return tuple(upserts), tuple(audits), tuple(outside)


def _require_effects(result: object) -> None:
    """TypeError unless a handler's result may hold effects; some that don't are empty and would pass for none."""
    kind = type(result).__name__
    if isinstance(result, EFFECTS):
        raise TypeError(f"a handler returns a list of effects, not one {kind}: put it into [ ]")
    if isinstance(result, Awaitable):
        if isinstance(result, Coroutine):
            result.close()  # or Python warns that it was never awaited
        raise TypeError(f"a handler returned {kind}, which has to be awaited: declare it with `async def`")
    if isinstance(result, str | bytes | Mapping) or not isinstance(result, Iterable):
        raise TypeError(f"a handler returns effects, not {kind}")


def _outbound(
    candidate: Candidate,
    effect: Publish,
    position: int,
    agent: Definition,
    contracts: Mapping[str, Contract],
    limits: Limits,
    now_ms: int,
) -> Outbound:
    event, topic = candidate.event, effect.topic
    contract = contracts.get(topic.name)
    if contract is None or topic.name not in agent.output_names:
        raise UndeclaredOutput(f"agent {agent.name} doesn't declare {topic.name!r} among its outputs")
    msg_id = derived_msg_id(event.msg_id, agent.name, effect.name if effect.name is not None else str(position))
    meta = event.meta
    value = contract.encode(effect.type, msg_id, effect.data, meta.mutable() if type(meta) is ReadOnly else None)
    key = None if topic.key is None else str(effect.data[topic.key]).lower().encode()
    headers = _NO_HEADERS if event.trace is None else [("traceparent", event.trace)]
    at_ms = event.timestamp_ms
    if candidate.record.headers or not 0 <= now_ms - at_ms <= limits.age_ms_small:
        at_ms, first_ms = output_time(candidate.record, now_ms, limits.age_ms(topic.name))
        if first_ms is not None:
            headers = [*headers, (EVENT_TIME, first_ms)]
    outbound = new(Outbound, (topic.name, None, at_ms, key, value, headers))
    if len(value) > limits.small_bytes and outbound.size_bytes() > limits.record_bytes(topic.name):
        raise Reject(
            f"its output {effect.type} takes {outbound.size_bytes()} bytes, more than topic {topic.name} accepts"
        )
    return outbound


def _claimable(effect: Outside, earlier: Iterable[Outside], agent: Definition) -> Outside:
    if not any(view.name == effect.view and isinstance(view, Claims) for view in agent.views):
        raise UndeclaredOutput(f"agent {agent.name} has no Claims view {effect.view!r} in its state for {effect.what}")
    if any(other.view == effect.view for other in earlier):
        raise UndeclaredOutput(
            f"{effect.what}: an event has one claim in {effect.view!r}, so it acts outside once under it"
        )
    return effect


class UndeclaredOutput(Exception):
    """A handler published to a topic, or acted under a claim, that its agent doesn't declare."""


def failed(candidate: Candidate, error: BaseException, agent: Definition) -> Rejected | Blocked:
    """Whose fault an exception is, decided by its class alone, as in an `except` clause. Never raises: whatever it says
    of itself is made bounded text first.
    """
    record, kind = candidate.record, type(error)
    if issubclass(kind, Reject):
        return Rejected(record, Rejection(class_of(error), said(part(error, "message")), lines(part(error, "explain"))))
    if issubclass(kind, Blocking):
        dependency = part(error, "dependency")
        reason = "dependency" if dependency is None else name(dependency)
        return Blocked(record, reason, said(part(error, "message")))
    if any(declared in kind.__mro__ for declared in agent.blocking):
        return Blocked(record, class_of(error), describe(error))
    return as_bug(record, agent, class_of(error), describe(error), stack_of(error))


def as_bug(record: Record, agent: Definition, error_class: str, message: str, stack: str = "") -> Rejected | Blocked:
    """A bug of the handler: what becomes of the record is the agent's policy."""
    if agent.on_bug == "error-topic":
        return Rejected(record, Rejection(error_class, message, stack=stack))
    return Blocked(record, BUG, message, stack)
