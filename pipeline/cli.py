"""`hardparts`: the command line. Each command lives in its own module and is imported when it is called."""

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from pipeline import __version__

COMMANDS: Mapping[str, tuple[str, str]] = {
    "demo": ("pipeline.demo.command:demo", "Run the whole pipeline through a bad day, and count afterwards."),
    "broker": ("pipeline.broker.command:broker", "Run the embedded broker, for development."),
    "worker": ("pipeline.commands.worker:worker", "Run one worker process with all agents."),
    "topics": ("pipeline.commands.topics:topics", "Compare the topics with the catalogue, and create them."),
    "send": ("pipeline.commands.send:send", "Send JSON lines to a topic."),
    "gateway": ("pipeline.commands.gateway:gateway", "Take events over HTTP, and answer for them."),
    "undelivered": (
        "pipeline.commands.undelivered:undelivered",
        "What Kafka refused of a gateway's: list, send again.",
    ),
    "outbox": ("pipeline.commands.outbox:outbox", "Relay the rows of an SQL outbox table to Kafka."),
    "tables": ("pipeline.commands.tables:tables", "Show the agents' state."),
    "erase": ("pipeline.commands.erase:erase", "Erase one user, and say what is left where."),
    "errors": ("pipeline.commands.errors:errors", "Show what was rejected, and why."),
    "contracts": ("pipeline.commands.contracts:contracts", "Explain what is wrong with an event."),
    "doctor": ("pipeline.commands.doctor:doctor", "Check that a worker can run here."),
}


class Commands(click.Group):
    """A group that knows its commands by name and loads one at a time: `--help` stays fast."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As click's, with the files that every process needs."""
        open_standard_files()
        return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])


def open_standard_files() -> None:
    """The null device in place of standard input, output or error, where whoever started the process has closed it.

    The next file to be opened would get its number: it would be written to in place of the output, and libuv aborts
    when it closes a socket with such a number.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    # Standard input stays None: what reads it says that it is closed.
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hardparts")
def main() -> None:
    """hardparts: the hard parts of Kafka, done.

    Settings come from flags, then HARDPARTS_… variables, then defaults. Exit status: 0 fine, 1 checked and found
    wanting or failed, 2 wrong usage or settings.
    """
    from pipeline.kafka.patches import apply_patches

    apply_patches()
