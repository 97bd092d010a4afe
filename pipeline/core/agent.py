"""An agent's definition: which function handles which type of event, and what happens to the rest."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.core.errors import Misconfigured
from pipeline.core.event import Event, event_class_of
from pipeline.core.state import State
from pipeline.core.topic import Topic
from pipeline.core.views import View

Unknown = Literal["ignore", "error-topic", "crash"]
OnBug = Literal["block", "error-topic"]
HandlerFunction = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Handler:
    """One function for one type of event. It takes (event, state) and returns, yields or awaits effects."""

    event_type: str
    function: HandlerFunction
    event_class: type[Event]
    is_async: bool
    takes_state: bool

    def __call__(self, event: Event, state: State) -> Any:
        """The effects, or an awaitable of them."""
        return self.function(event, state) if self.takes_state else self.function(event)


@dataclass(slots=True)
class Definition:
    """What an agent is, without any I/O.

    name: part of the derived msg_ids, never change it. sources: the topics that it reads. views: its state.
    unknown: for types without a handler: ignore, error-topic or crash. on_bug: for exceptions that are neither Reject
    nor Blocking: block and alert, or error-topic. blocking: exception types that mean "a dependency is away".
    audit_repeats: write an audit record for each duplicate (for side effects: D4).
    """

    name: str
    sources: tuple[Topic, ...]
    views: tuple[View, ...] = ()
    outputs: tuple[Topic, ...] = ()
    unknown: Unknown = "error-topic"
    on_bug: OnBug = "block"
    blocking: tuple[type[BaseException], ...] = ()
    audit_repeats: bool = False
    handlers: dict[str, Handler] = field(default_factory=dict)
    output_names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.output_names = frozenset(topic.name for topic in self.outputs)
        if not self.name or any(not (c.isalnum() or c in "-_") for c in self.name):
            raise Misconfigured(f"an agent's name has letters, digits, '-' and '_', not {self.name!r}")
        if not self.sources:
            raise Misconfigured(f"agent {self.name!r} has no sources: name the topics that it reads")
        unique(f"agent {self.name!r}, views", (view.name for view in self.views))
        if self.views:
            self._require_one_partitioner()
        if self.unknown not in ("ignore", "error-topic", "crash"):
            raise Misconfigured(f"agent {self.name!r}: unknown is ignore, error-topic or crash, not {self.unknown!r}")
        if self.on_bug not in ("block", "error-topic"):
            raise Misconfigured(f"agent {self.name!r}: on_bug is block or error-topic, not {self.on_bug!r}")

    @property
    def partitioner(self) -> str:
        """Which hash of a key says in which unit it is; an agent with state has one, others may read several."""
        return next((topic.partitioner for topic in self.sources if topic.ordered), "murmur2")

    def _require_one_partitioner(self) -> None:
        """A key has its rows in one unit: the one of the partition where each source has it."""
        found = {topic.name: topic.partitioner for topic in self.sources if topic.ordered}
        if "any" in found.values():
            loose = ", ".join(name for name, partitioner in found.items() if partitioner == "any")
            raise Misconfigured(
                f"agent {self.name!r} keeps state, so it can't read {loose} with partitioner 'any': nothing says where "
                "a key's rows would be; have its producers use one that is known, and declare that"
            )
        if len(set(found.values())) > 1:
            shown = ", ".join(f"{name} has {partitioner}" for name, partitioner in found.items())
            raise Misconfigured(
                f"agent {self.name!r} keeps state, so all its sources need one partitioner, but {shown}: "
                "a key's events would go to two units; have the producers of one topic use the other's"
            )

    def on(self, type_: str) -> Callable[[HandlerFunction], HandlerFunction]:
        """Register the decorated function for events of `type_`; a second one for the same type is an error (X1)."""

        def register(function: HandlerFunction) -> HandlerFunction:
            if type_ in self.handlers:
                known = self.handlers[type_].function.__qualname__
                raise Misconfigured(
                    f"agent {self.name!r}: {type_!r} is handled by {known} and {function.__qualname__}: keep one"
                )
            self.handlers[type_] = Handler(
                event_type=type_,
                function=function,
                event_class=event_class_of(function),
                is_async=inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function),
                takes_state=len(inspect.signature(function).parameters) > 1,
            )
            return function

        return register


def unique(where: str, names: Iterable[str]) -> None:
    """Misconfigured when a name comes twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Misconfigured(f"{where}: {name!r} is declared twice")
        seen.add(name)
