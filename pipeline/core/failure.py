"""A failure as text. Nothing here but `line_of` raises, whatever was raised: a failure that can't be described would
end the worker.

Covers exceptions whose text or representation can't be had, texts of megabytes, lone surrogates, classes with odd
names, causes in a circle, and groups. Only KeyboardInterrupt goes through: that is somebody's Ctrl-C.
"""

import traceback
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from pipeline.core.error_record import text

STACK_CHARS_MAX = 4000
NAME_CHARS_MAX = 100
EXPLAIN_LINES_MAX = 100

Result = TypeVar("Result")


def class_of(error: BaseException) -> str:
    """The name of its class, in one line and short: it becomes a header and a label of a metric."""
    return name(type.__dict__["__name__"].__get__(type(error)))


def line_of(error: BaseException) -> str:
    """What an error of a library says, in one line; its class when it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def describe(error: BaseException) -> str:
    """`Class: text`, bounded and printable."""
    return f"{class_of(error)}: {said(error)}"


def said(value: object) -> str:
    """What `value` says of itself, bounded and printable.

    >>> said("a\\x00b"), said(None)
    ('a\\\\x00b', 'None')
    """
    return _tried(lambda: text(str(value)), lambda trouble: f"<no text: {class_of(trouble)}>")


def part(error: BaseException, attribute: str) -> object:
    """An attribute of an exception; None when it has none, or it can't be read."""
    return _tried(lambda: getattr(error, attribute, None), lambda _: None)


def lines(explain: object) -> tuple[str, ...]:
    """The lines of an explanation, at most EXPLAIN_LINES_MAX; a single text is one line, as is what isn't iterable."""
    if explain is None or isinstance(explain, str):
        return (said(explain),) if explain else ()
    given: Any = explain
    return _tried(
        lambda: tuple(said(line) for line in islice(iter(given), EXPLAIN_LINES_MAX)), lambda _: (said(explain),)
    )


def name(value: object) -> str:
    """`value` as a name: one printable line, short; `unnamed` when nothing is left."""
    return " ".join(said(value).split())[:NAME_CHARS_MAX] or "unnamed"


def stack_of(error: BaseException) -> str:
    """The last part of its traceback; why there is none, when it can't be written."""
    return _tried(lambda: "".join(traceback.format_exception(error))[-STACK_CHARS_MAX:], partial(_without_stack, error))


def _without_stack(error: BaseException, trouble: BaseException) -> str:
    why = f" (no traceback: {class_of(trouble)})"
    return describe(error)[: STACK_CHARS_MAX - len(why)] + why


def _tried(act: Callable[[], Result], instead: Callable[[BaseException], Result]) -> Result:
    """What `act` gives, or what is said in place of it: it calls user code, which may raise anything."""
    try:
        return act()
    except KeyboardInterrupt:
        raise
    except BaseException as trouble:  # noqa: BLE001 - that is the point
        return instead(trouble)
