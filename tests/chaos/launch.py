"""The product's own command, started with something changed from outside: `python -m tests.chaos.launch worker …`.

CHAOS_STRIKE=stop: the armed crash point stops the process (SIGSTOP) instead of killing it.
CHAOS_STOP_AT_SEND=N: SIGSTOP between the check of the lease and the send of the Nth record batch for the changelog.
CHAOS_AWAY=FILE: comments wait for a dependency, a file: while FILE exists, it is away.
CHAOS_MAILED=1: notifications that `tests.chaos.mailing` picks have an address; the others are dropped.
CHAOS_PLANTED=NAME: one of the bugs of `tests.chaos.planted.bugs`.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from pipeline.core.errors import Blocking
from pipeline.core.event import Event, ReadOnly
from pipeline.core.state import State
from pipeline.runtime import crashpoints, run
from pipeline.runtime.app import App
from pipeline.runtime.settings import Settings
from tests.oracle.process import Worker
from tests.oracle.records import AGENT

MODULE = "tests.chaos.launch"


def launched(worker: Worker, **environment: str) -> Worker:
    """Make a worker that is not started yet start through this module, with these variables."""
    worker.module = MODULE
    worker._environment.update(environment)
    return worker


def stop_instead(_point: str) -> None:
    """The strike of a crash point that makes a zombie."""
    os.kill(os.getpid(), signal.SIGSTOP)


def stop_at_send(nth: int) -> None:
    """Stop after everything that a worker checks before it writes rows: what it sends when it goes on is late."""
    send = AIOKafkaProducer.send_batch
    left = nth

    async def send_batch(producer: AIOKafkaProducer, batch: Any, topic: str, *, partition: int) -> Any:
        nonlocal left
        if topic.endswith("-changelog"):
            left -= 1
            if left == 0:
                stop_instead("")
        return await send(producer, batch, topic, partition=partition)

    AIOKafkaProducer.send_batch = send_batch


def wait_for_file(app: App, away: Path) -> None:
    """Let the handler of comments wait while `away` exists: the only dependency that the judged agent can be given."""
    handlers = next(definition for definition in app.declared if definition.name == AGENT).handlers
    handler = handlers["comment.created"]

    def waiting(event: Event, state: State) -> Any:
        if away.exists():
            raise Blocking(f"{away.name} exists", "file")
        return handler.function(event, state)

    handlers["comment.created"] = replace(handler, function=waiting)


def give_addresses(app: App) -> None:
    """Let notifications be mailed: those of the judged agent have no address."""
    from tests.chaos.mailing import AGENT as MAILS
    from tests.chaos.mailing import is_mailed

    handlers = next(definition for definition in app.declared if definition.name == MAILS).handlers
    handler = handlers["notification.requested"]

    def addressed(event: Event) -> Any:
        if not is_mailed(event.msg_id):
            return []
        data = ReadOnly(event.data.mutable() | {"email": "somebody@example.org"})
        return handler.function(event._replace(data=data))

    handlers["notification.requested"] = replace(handler, function=addressed)


def main() -> None:
    """Change what the environment names, then run the command."""
    if os.environ.get("CHAOS_STRIKE") == "stop":
        crashpoints._kill = stop_instead
    if nth := os.environ.get("CHAOS_STOP_AT_SEND"):
        stop_at_send(int(nth))
    load = run.load_app

    def load_and_change(settings: Settings) -> App:
        app = load(settings)
        if away := os.environ.get("CHAOS_AWAY"):
            wait_for_file(app, Path(away))
        if os.environ.get("CHAOS_MAILED"):
            give_addresses(app)
        if name := os.environ.get("CHAOS_PLANTED"):
            from tests.chaos.planted.bugs import plant

            plant(name, app)
        return app

    run.load_app = load_and_change
    from pipeline.cli import main as command

    command()


if __name__ == "__main__":
    main()
