"""One agent that reads a topic without keys and writes another: work in no order."""

from pathlib import Path

from pipeline.core.effects import Publish, publish
from pipeline.core.event import Event
from pipeline.core.state import State
from pipeline.core.topic import Catalogue, Topic
from pipeline.core.views import Counter
from pipeline.runtime.agent import Agent
from pipeline.runtime.app import App

pictures, thumbnails = Topic("pictures", key=None), Topic("thumbnails", key=None)
seen = Counter("seen")
app = App(catalogue=Catalogue.of([pictures, thumbnails]), modules=[], contracts=Path(__file__).parent / "contracts")
resizer = Agent(app, "resizer", sources=[pictures], outputs=[thumbnails], state=[seen])


class PictureUploaded(Event):
    """A picture is there."""

    path: str


@resizer.on("picture.uploaded")
async def picture_uploaded(event: PictureUploaded, state: State) -> list[Publish]:
    """Say that there is a small one."""
    seen.of(state).set(seen.of(state).get() + 1)
    return [publish(thumbnails, "picture.resized", path=f"small/{event.path}")]
