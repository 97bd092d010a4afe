"""What to try on a demo that was left running."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.demo.story import Story


def hints(story: Story) -> str:
    """The environment, and three commands, ready to be pasted into another terminal in the same directory."""
    settings = story.cluster.settings()
    worker = next(worker for worker in story.crew.members if worker.running)
    exports = "\n".join(f"  export HARDPARTS_{name.upper()}={shlex.quote(value)}" for name, value in settings.items())
    command = f"{shlex.quote(sys.executable)} -m pipeline"
    return (
        "\nIt goes on running; Ctrl-C here stops it. In another terminal:\n"
        f"{exports}\n"
        f"  {command} errors show {story.bobby}\n"
        f"  {command} tables dump comments\n"
        f"  curl -s {worker.web}/metrics | grep '^hardparts_records_total'"
    )
