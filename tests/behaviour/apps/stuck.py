"""An agent whose handlers wait for files, as for a slow service, and write down when they begin and end.

TEST_DIR: a directory. While `away` is in it, comments that say "blocks" raise Blocking. The others wait for the file
`go`, or one named after their user; those that say "swallows" take no notice of the first cancel, those
that say "holds" of none. `journal` gets a line
for each handler that begins and ends.
"""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

from aiohttp import web

from agents import topics
from pipeline.core.effects import Publish, publish
from pipeline.core.errors import Blocking
from pipeline.core.event import Event
from pipeline.core.state import State
from pipeline.core.topic import Catalogue
from pipeline.core.views import MsgIdSet
from pipeline.runtime.agent import Agent
from pipeline.runtime.app import App

HERE = Path(os.environ["TEST_DIR"])
app = App(
    catalogue=Catalogue.of([topics.user_events, topics.team_events, topics.comment_counts]),
    contracts=Path(__file__).parents[3] / "agents" / "contracts",
    modules=[],
)
comments = MsgIdSet("comments")
stuck = Agent(app, "stuck", sources=[topics.user_events], outputs=[topics.comment_counts], state=[comments])

plain = Agent(app, "plain", sources=[topics.team_events])


@plain.on("team.joined")
def team_joined(event: Event) -> list[Publish]:
    """Nothing, at once: an agent whose handlers never wait needs no slots."""
    return []


class CommentCreated(Event):
    """A user wrote a comment."""

    user_id: int
    msg: str


@stuck.on("comment.created")
async def comment_created(event: CommentCreated, state: State) -> list[Publish]:
    """Count it, once the slow service has answered."""
    word = event.msg.split()[0]
    if word == "blocks" and (HERE / "away").exists():
        raise Blocking("away", "file")
    _note("begins", event, word)
    while word == "holds":
        with contextlib.suppress(BaseException):  # as a bare `except:` around a loop of retries
            await asyncio.sleep(3600)
    if word == "swallows":
        with contextlib.suppress(asyncio.CancelledError):  # the first one
            await asyncio.sleep(3600)
    while not ((HERE / "go").exists() or (HERE / str(event.user_id)).exists()):  # noqa: ASYNC110 - a file
        await asyncio.sleep(0.02)
    _note("ends", event, word)
    total = comments.of(state).add(event.msg_id)
    return [publish(topics.comment_counts, "comment.counted", user_id=event.user_id, count=total)]


def _note(what: str, event: CommentCreated, word: str) -> None:
    with (HERE / "journal").open("a") as journal:
        journal.write(f"{what} {event.partition} {event.user_id} {word}\n")


@app.page("/held/")
async def held(_self: Any, _request: Any) -> web.Response:
    """partition → slots that its unit holds, whether it has room for more batches, and how far it has fetched."""
    units = {unit.partition: unit for unit in app.units if unit.agent is stuck.definition}
    slots = app.context.demand._held
    return web.json_response({
        number: {
            "slots": slots[unit.name],
            "room": unit.has_room(),
            "fetched": unit.inbox._fetched[topics.user_events.name],
        }
        for number, unit in units.items()
    })  # fmt: skip
