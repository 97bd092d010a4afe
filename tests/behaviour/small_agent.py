"""An application of one agent, made by a test, on the contracts of the real one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from agents import topics
from pipeline.core.topic import Catalogue
from pipeline.runtime.agent import Agent
from pipeline.runtime.app import App
from tables.read_model import metadata

CONTRACTS = Path(__file__).parents[2] / "agents" / "contracts"


def small_agent(handlers: dict[str, Callable[..., Any]] | None = None, **options: Any) -> Agent:
    """An agent `small` that reads `user-events` and may write `comment-counts`; event type → handler."""
    app = App(catalogue=Catalogue.of(list(topics.catalogue)), modules=[], contracts=CONTRACTS, read_model=metadata)
    options.setdefault("sources", [topics.user_events])
    options.setdefault("outputs", [topics.comment_counts])
    agent = Agent(app, "small", **options)
    for type_, handler in (handlers or {}).items():
        agent.on(type_)(handler)
    return agent
