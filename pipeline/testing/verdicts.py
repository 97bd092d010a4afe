"""What a test says must have come out: each `then_…` takes the next result of its kind, or fails readably."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import orjson

from pipeline.contracts.contract import Contract as TopicContract
from pipeline.core.contract import Contract
from pipeline.core.outcome import Blocked
from pipeline.core.topic import Topic
from pipeline.testing.difference import differences
from pipeline.testing.results import Published, RejectedRecord, first_occurrences, published, rejected
from pipeline.testing.worker import Worker


class Verdicts(ABC):
    """The `then_…` half of the kit. The first one after something was given runs the agent on it."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.acknowledged = False
        self.unsettled = True
        self._taken: set[tuple[str, str]] = set()
        self._rejections_taken = 0
        self._audits_taken = 0

    @abstractmethod
    def run(self) -> None:
        """Process all that has arrived."""

    def settle(self) -> None:
        """Run, if something has arrived since the last run; a blocked record is not tried again for a mere look."""
        if self.unsettled:
            self.run()

    # ------------------------------------------------------------------ events

    def events(self) -> list[Published]:
        """Every output event so far, in the order in which it was written, without physical repeats."""
        self.settle()
        topics = {topic.name for topic in self.worker.agent.outputs}
        written = [record for record in self.worker.log.written if record.topic in topics]
        return [published(record) for record in first_occurrences(written)]

    def physical_events(self) -> list[Published]:
        """The same with the repeats that a redo has written."""
        self.settle()
        topics = {topic.name for topic in self.worker.agent.outputs}
        return [published(record) for record in self.worker.log.written if record.topic in topics]

    def then_event(self, type_: str, payload: Mapping[str, Any], /, *, key: str | None = None) -> Published:
        """The next event on the topic of `type_` has this type and exactly this data; returned for a closer look.

        Topics are looked at one by one: across topics there is no order. key: the record key as text, if it matters.
        """
        __tracebackhide__ = True
        topics = self._topics_of(type_)
        waiting = self._waiting()
        here = [event for event in waiting if event.topic in topics]
        if not here:
            raise AssertionError(f"no {type_} came out{self._instead(waiting)}")
        event = here[0]
        lines = [] if event.type == type_ else [f"type: expected {type_!r}, got {event.type!r}"]
        lines += differences(payload, event.data)
        if key is not None and event.key != key:
            lines.append(f"key: expected {key!r}, got {event.key!r}")
        if lines:
            raise AssertionError(f"the next event on {event.topic} is another than {type_}:\n  " + "\n  ".join(lines))
        self._taken.add((event.topic, event.msg_id))
        return event

    def then_no_event(self) -> None:
        """No event is left, nothing blocks and nothing crashed."""
        __tracebackhide__ = True
        waiting = self._waiting()
        if waiting:
            raise AssertionError(f"no event was expected{self._instead(waiting)}")
        self._require_running()

    def then_nothing_else(self) -> None:
        """No event, error record or audit record is left, nothing blocks and nothing crashed."""
        __tracebackhide__ = True
        self.then_no_event()
        if left := self.rejections()[self._rejections_taken :]:
            raise AssertionError("no rejection was expected, there is\n  " + "\n  ".join(one.reason for one in left))
        if audits := self.audits()[self._audits_taken :]:
            raise AssertionError("no audit record was expected, there is\n  " + "\n  ".join(map(str, audits)))

    # ------------------------------------------------------------------ error and audit records

    def rejections(self) -> list[RejectedRecord]:
        """Every error record so far; those of a redo are repeated, as on a real error topic."""
        self.settle()
        return [rejected(record) for record in self.worker.log.of_topic(self.worker.context.errors_topic)]

    def then_rejected(self, contains: str = "") -> RejectedRecord:
        """One more record went to the error topic, and class, message or explanation contain this text."""
        __tracebackhide__ = True
        left = self.rejections()[self._rejections_taken :]
        if not left:
            raise AssertionError(f"nothing was rejected{self._instead(self._waiting())}")
        if contains not in left[0].reason:
            raise AssertionError(f"rejected for another reason than {contains!r}:\n  {left[0].reason}")
        self._rejections_taken += 1
        return left[0]

    def audits(self) -> list[dict[str, Any]]:
        """Every audit record so far."""
        self.settle()
        records = self.worker.log.of_topic(self.worker.context.audit_topic)
        return [orjson.loads(record.value or b"{}") for record in records]

    def then_audited(self, kind: str) -> dict[str, Any]:
        """One more record went to the audit topic: repeat, conflict, in doubt, or a kind of the agent's own."""
        __tracebackhide__ = True
        left = self.audits()[self._audits_taken :]
        if not left:
            raise AssertionError(f"nothing was audited{self._instead(self._waiting())}")
        if left[0]["kind"] != kind:
            raise AssertionError(f"audited is {left[0]['kind']!r}, not {kind!r}: {left[0]}")
        self._audits_taken += 1
        return left[0]

    # ------------------------------------------------------------------ standing still

    def blocked(self) -> Blocked | None:
        """What the first blocked unit waits for."""
        units = self.worker.units.values()
        return next((unit.head.blocked for unit in units if unit.head.blocked is not None), None)

    def then_blocked(self, reason: str) -> Blocked:
        """A record waits for this dependency (`bug`: an unexpected exception of a handler)."""
        __tracebackhide__ = True
        self.settle()
        blocked = self.blocked()
        if blocked is None:
            raise AssertionError(f"nothing blocks{self._instead(self._waiting())}")
        if blocked.reason != reason:
            raise AssertionError(f"blocked on {blocked.reason!r}, not {reason!r}: {blocked.message}\n{blocked.stack}")
        self.acknowledged = True
        return blocked

    def then_crashed(self, contains: str = "") -> Exception:
        """The process can't go on, with an error whose type and message contain this text."""
        __tracebackhide__ = True
        self.settle()
        error = self.worker.fatal
        if error is None:
            raise AssertionError(f"the process goes on{self._instead(self._waiting())}")
        if contains not in f"{type(error).__name__}: {error}":
            raise AssertionError(f"crashed, but not with {contains!r}") from error
        self.acknowledged = True
        return error

    # ------------------------------------------------------------------ inside

    def _waiting(self) -> list[Published]:
        return [event for event in self.events() if (event.topic, event.msg_id) not in self._taken]

    def _topics_of(self, type_: str) -> set[str]:
        declared = {topic.name: self._types(topic) for topic in self.worker.agent.outputs}
        topics = {name for name, types in declared.items() if type_ in types}
        if not topics:
            known = ", ".join(name for types in declared.values() for name in types)
            raise AssertionError(
                f"agent {self.worker.agent.name} declares no output {type_!r}; it has {known or 'none'}"
            )
        return topics

    def _types(self, topic: Topic) -> tuple[str, ...]:
        return types_of(self.worker.contracts[topic.name])

    def _require_running(self) -> None:
        __tracebackhide__ = True
        if self.worker.fatal is not None:
            raise AssertionError(f"the process crashed: {self.worker.fatal}") from self.worker.fatal
        if not self.acknowledged and (trouble := self._trouble()):
            raise AssertionError(trouble)

    def _trouble(self) -> str:
        if self.worker.fatal is not None:
            return f"the process crashed: {type(self.worker.fatal).__name__}: {self.worker.fatal}"
        blocked = self.blocked()
        return "" if blocked is None else f"blocked on {blocked.reason}: {blocked.message}\n{blocked.stack}".rstrip()

    def _instead(self, waiting: list[Published]) -> str:
        """The rest of a message: what there is instead."""
        lines = [f"{event.type} {event.data}" for event in waiting]
        lines += [f"rejected: {one.reason}" for one in self.rejections()[self._rejections_taken :]]
        lines += [f"audited: {one}" for one in self.audits()[self._audits_taken :]]
        if trouble := self._trouble():
            lines.append(trouble)
        return "; there is\n  " + "\n  ".join(lines) if lines else "; nothing came out"


def types_of(contract: Contract) -> tuple[str, ...]:
    """The event types of a topic's contract."""
    assert isinstance(contract, TopicContract)
    return contract.types
