"""Two versions of one application: the later one's agent reads one more topic."""

from collections.abc import Sequence
from pathlib import Path

from agents import topics
from pipeline.core.effects import Publish, publish
from pipeline.core.event import Event
from pipeline.core.state import State
from pipeline.core.topic import Catalogue, Topic
from pipeline.core.views import MsgIdSet
from pipeline.runtime.agent import Agent
from pipeline.runtime.app import App

CONTRACTS = Path(__file__).parents[3] / "agents" / "contracts"
seen = MsgIdSet("seen")


class OfAUser(Event):
    """Whatever it was."""

    user_id: int | str


def version(sources: Sequence[Topic]) -> App:
    """An application with one agent, which counts what a user did: its outputs show what its state was."""
    catalogue = Catalogue.of([topics.user_events, topics.team_events, topics.comment_counts])
    app = App(catalogue=catalogue, contracts=CONTRACTS, modules=[])
    agent = Agent(app, "counting", sources=sources, outputs=[topics.comment_counts], state=[seen], unknown="ignore")

    @agent.on("comment.created")
    def comment_created(event: OfAUser, state: State) -> list[Publish]:
        return count(event, state)

    if topics.team_events in sources:

        @agent.on("team.joined")
        def team_joined(event: OfAUser, state: State) -> list[Publish]:
            return count(event, state)

    return app


def count(event: OfAUser, state: State) -> list[Publish]:
    """One more."""
    total = seen.of(state).add(event.msg_id)
    return [publish(topics.comment_counts, "comment.counted", output="counted", user_id=event.user_id, count=total)]
