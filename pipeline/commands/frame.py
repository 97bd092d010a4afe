"""What every command shares: settings from flags, errors as one line with an exit code, lines for people or as JSON."""

import functools
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar

import click

from pipeline.core.errors import HardpartsError, Misconfigured

FAILED, WRONG_USE = 1, 2

F = TypeVar("F", bound=Callable[..., Any])

_OBEYED_BY_TERMINALS = re.compile("[\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
loglevel_option = click.option(
    "--loglevel",
    default="warning",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="How much to log.",
)


def cluster_options(function: F) -> F:
    """--broker, --app and --app-id, for commands that need a broker and the application."""
    options = (
        click.option("--broker", help="Brokers, kafka://host:port[,…] [HARDPARTS_BROKER: kafka://127.0.0.1:9092]."),
        click.option("--app", help="The application, module:attribute [HARDPARTS_APP: agents.app:app]."),
        click.option("--app-id", help="Name of the group and prefix of our topics [HARDPARTS_APP_ID: hardparts]."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def settings_of(**flags: Any) -> Any:
    """The settings; flags are put into the environment too, where the application reads them when it is imported."""
    from pipeline.runtime.settings import read_settings

    settings = read_settings(**flags)
    for name, value in flags.items():
        if value is not None:
            os.environ[f"HARDPARTS_{name.upper()}"] = str(value)
    return settings


def framed(function: F) -> F:
    """Errors of ours are one line on standard error: exit 2 for wrong settings, 1 for what failed."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        for name in ("aiokafka", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what they would say, the error line says
        try:
            _require_text(kwargs)
            code = function(*args, **kwargs)
        except Misconfigured as error:
            code = _failed(error, WRONG_USE)
        except HardpartsError as error:
            code = _failed(error, FAILED)
        except BrokenPipeError:
            raise  # click ends quietly when the reader of a pipe is gone
        except OSError as error:
            code = _failed(f"{error.filename or ''}: {error.strerror or error}".removeprefix(": "), FAILED)
        sys.exit(code or 0)

    return run  # type: ignore[return-value]  # the same parameters, as click sees them


def echo_json(row: dict[str, Any]) -> None:
    """One JSON line; what a terminal would obey is escaped."""
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=str)
    click.echo(_OBEYED_BY_TERMINALS.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def printable(data: bytes | str | None) -> str:
    """Text for a terminal: control, format and undecodable characters are escaped; line breaks and tabs too."""
    if data is None:
        return "(none)"
    text = data.decode(errors="backslashreplace") if isinstance(data, bytes) else data
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while the block runs, if that is a terminal; call it with (done, total)."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def standard_input() -> BinaryIO:
    """What is piped in; Misconfigured when a caller has closed it."""
    if sys.stdin is None:
        raise Misconfigured("standard input is closed: name a file, or give </dev/null")
    return sys.stdin.buffer


def _require_text(arguments: dict[str, Any]) -> None:
    """Misconfigured for an argument that isn't UTF-8: neither a key nor a name can be. Paths may be anything."""
    for name, value in arguments.items():
        if name != "path" and isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
            raise Misconfigured(f"{name.strip('_').replace('_', '-')} isn't UTF-8 text: {value!r}")


def _failed(error: object, code: int) -> int:
    click.echo(f"error: {printable(' '.join(str(error).split()))}", err=True)
    return code
