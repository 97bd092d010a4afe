"""An agent's definition: which function handles which type of event, and what happens to the rest."""

import contextlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pipeline.core.errors import Misconfigured
from pipeline.core.event import Event, event_class_of
from pipeline.core.routing import DEFAULT
from pipeline.core.state import State
from pipeline.core.topic import Topic
from pipeline.core.views import View

Unknown = Literal["ignore", "error-topic", "crash"]
OnBug = Literal["block", "error-topic"]
HandlerFunction = Callable[..., Any]
Part = TypeVar("Part")


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
    audit_repeats: write an audit record for each duplicate (for side effects).
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
        """Misconfigured for whatever would only fail at the first record."""
        given: Any = self  # types are checked too, since nobody has to run mypy
        if not isinstance(given.name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise Misconfigured(f"an agent's name has letters, digits, '-' and '_', not {self.name!r}")
        where = f"agent {self.name!r}"
        self.sources = listed(f"{where}, sources", self.sources, Topic)
        self.outputs = listed(f"{where}, outputs", self.outputs, Topic)
        self.views = listed(f"{where}, state", self.views, View)
        if isinstance(given.blocking, type):  # one class without its tuple, as `except` takes it
            self.blocking = (given.blocking,)
        self.blocking = listed(f"{where}, blocking", self.blocking, type)
        for kind in self.blocking:
            if not issubclass(kind, BaseException):
                raise Misconfigured(f"{where}, blocking: {kind.__name__} is not an exception class")
        if not self.sources:
            raise Misconfigured(f"{where} has no sources: name the topics that it reads")
        unique(f"{where}, sources", (topic.name for topic in self.sources))
        unique(f"{where}, outputs", (topic.name for topic in self.outputs))
        unique(f"{where}, views", (view.name for view in self.views))
        if self.views:
            self._require_one_partitioner()
        if self.unknown not in ("ignore", "error-topic", "crash"):
            raise Misconfigured(f"{where}: unknown is ignore, error-topic or crash, not {self.unknown!r}")
        if self.on_bug not in ("block", "error-topic"):
            raise Misconfigured(f"{where}: on_bug is block or error-topic, not {self.on_bug!r}")
        if not isinstance(self.audit_repeats, bool):
            raise Misconfigured(f"{where}: audit_repeats is True or False, not {self.audit_repeats!r}")
        self.output_names = frozenset(topic.name for topic in self.outputs)

    @property
    def partitioner(self) -> str:
        """Which hash of a key says in which unit it is; an agent with state has one, others may read several."""
        return next((topic.partitioner for topic in self.sources if topic.ordered), DEFAULT)

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
        """Register the decorated function for events of `type_`; a second one for the same type is an error."""
        if not isinstance(type_, str):
            raise Misconfigured(f"agent {self.name!r}: on(…) takes the type of an event as text, not {type_!r}")

        def register(function: HandlerFunction) -> HandlerFunction:
            where = f"agent {self.name!r}, handler of {type_!r}"
            if type_ in self.handlers:
                known, another = (
                    getattr(one, "__qualname__", repr(one)) for one in (self.handlers[type_].function, function)
                )
                raise Misconfigured(f"agent {self.name!r}: {type_!r} is handled by {known} and {another}: keep one")
            takes_state = _takes_state(where, function)
            self.handlers[type_] = Handler(
                event_type=type_,
                function=function,
                event_class=_event_class(where, function),
                is_async=inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function),
                takes_state=takes_state,
            )
            return function

        return register


def _takes_state(where: str, function: HandlerFunction) -> bool:
    """Whether it is called with (event, state); Misconfigured unless it takes that, or an event alone."""
    if not inspect.isfunction(function) and not inspect.ismethod(function):
        raise Misconfigured(f"{where} is a function, not {type(function).__name__}: write a `def` that calls it")
    signature = inspect.signature(function)
    for arguments in ((None, None), (None,)):
        with contextlib.suppress(TypeError):
            signature.bind(*arguments)
            return len(arguments) > 1
    raise Misconfigured(f"{where} takes (event, state) or (event), not {signature}")


def _event_class(where: str, function: HandlerFunction) -> type[Event]:
    try:
        return event_class_of(function)
    except Exception as error:
        raise Misconfigured(
            f"{where}: its annotations can't be read ({type(error).__name__}: {error}): import what they name"
        ) from error


def listed(where: str, given: Any, kind: type[Part]) -> tuple[Part, ...]:
    """`given` as a tuple; Misconfigured unless it is several of `kind`."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise Misconfigured(f"{where} is a list, not {given!r:.100}")
    parts = tuple(given)
    for part in parts:
        if not isinstance(part, kind):
            raise Misconfigured(f"{where}: {part!r:.100} is not a {'class' if kind is type else kind.__name__}")
    return parts


def unique(where: str, names: Iterable[str]) -> None:
    """Misconfigured when a name comes twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Misconfigured(f"{where}: {name!r} is declared twice")
        seen.add(name)
