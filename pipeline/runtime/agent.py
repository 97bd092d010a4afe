"""Writing an agent: `Agent(app, name, sources=[…])`, then `@agent.on("event.type")` for each type of event."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pipeline.core.agent import Definition, HandlerFunction, OnBug, Unknown
from pipeline.core.errors import Misconfigured
from pipeline.core.topic import Topic
from pipeline.core.views import View
from pipeline.runtime.app import App


class Agent:
    """A Faust agent whose events are batches, handed to the unit of their partition.

    name: part of derived msg_ids and of the changelog's name: never change it. sources, outputs: topics of the
    catalogue that it reads and writes. state: its views. unknown, on_bug, blocking, audit_repeats: see `Definition`.
    """

    def __init__(
        self,
        app: App,
        name: str,
        *,
        sources: Sequence[Topic],
        outputs: Sequence[Topic] = (),
        state: Iterable[View] = (),
        unknown: Unknown = "error-topic",
        on_bug: OnBug = "block",
        blocking: tuple[type[BaseException], ...] = (),
        audit_repeats: bool = False,
    ) -> None:
        if not isinstance(app, App):
            raise Misconfigured(f"agent {name!r}: the first argument of Agent is the application, not {app!r:.100}")
        self.app = app
        given: Any = {"sources": sources, "views": state, "outputs": outputs}  # Definition makes tuples of them
        self.definition = Definition(
            name, **given, unknown=unknown, on_bug=on_bug, blocking=blocking, audit_repeats=audit_repeats
        )
        sources, outputs = self.definition.sources, self.definition.outputs
        app.declare(self.definition)
        if app.runs(name):
            channel = app.topic(*(topic.name for topic in sources), key_serializer="raw", value_serializer="raw")
            app.Table(name, partitions=app.settings.partitions, help=f"state of agent {name}")
            faust_agent = app.agent(channel, name=name)(self._deliver)
            faust_agent.help = f"writes {', '.join(topic.name for topic in outputs) or 'no topic'}"  # in `faust agents`

    def on(self, type_: str) -> Callable[[HandlerFunction], HandlerFunction]:
        """Handle events of `type_` with the decorated function: (event, state) → effects."""
        return self.definition.on(type_)

    async def _deliver(self, stream: Any) -> None:
        """The Faust agent's body: each event is a batch. Nothing is acked here: the units' positions are committed."""
        async for event in stream.noack().events():
            await self.app.units.deliver(event.value)
