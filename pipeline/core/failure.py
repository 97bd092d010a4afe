"""A failure as text. Nothing here raises, whatever was raised: a failure that can't be described would end the worker.

Covers exceptions whose text or representation can't be had, texts of megabytes, lone surrogates, classes with odd
names, causes in a circle, and groups. Only KeyboardInterrupt goes through: that is somebody's Ctrl-C.
"""

import traceback
from itertools import islice

from pipeline.core.error_record import text

STACK_CHARS_MAX = 4000
NAME_CHARS_MAX = 100
EXPLAIN_LINES_MAX = 100


def class_of(error: BaseException) -> str:
    """The name of its class, in one line and short: it becomes a header and a label of a metric."""
    return name(type.__dict__["__name__"].__get__(type(error)))


def describe(error: BaseException) -> str:
    """`Class: text`, bounded and printable."""
    return f"{class_of(error)}: {said(error)}"


def said(value: object) -> str:
    """What `value` says of itself, bounded and printable.

    >>> said("a\\x00b"), said(None)
    ('a\\\\x00b', 'None')
    """
    try:
        return text(str(value))
    except KeyboardInterrupt:
        raise
    except BaseException as trouble:  # noqa: BLE001 - user code; whatever it raises, there is no text
        return f"<no text: {class_of(trouble)}>"


def part(error: BaseException, attribute: str) -> object:
    """An attribute of an exception; None when it has none, or it can't be read."""
    try:
        return getattr(error, attribute, None)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a property is user code too
        return None


def lines(explain: object) -> tuple[str, ...]:
    """The lines of an explanation, at most EXPLAIN_LINES_MAX; a single text is one line."""
    if explain is None or isinstance(explain, str):
        return (said(explain),) if explain else ()
    try:
        return tuple(said(line) for line in islice(iter(explain), EXPLAIN_LINES_MAX))  # type: ignore[call-overload]
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - not to be iterated over, or not to the end
        return (said(explain),)


def name(value: object) -> str:
    """`value` as a name: one printable line, short; `unnamed` when nothing is left."""
    return " ".join(said(value).split())[:NAME_CHARS_MAX] or "unnamed"


def stack_of(error: BaseException) -> str:
    """The last part of its traceback; why there is none, when it can't be written."""
    try:
        return "".join(traceback.format_exception(error))[-STACK_CHARS_MAX:]
    except KeyboardInterrupt:
        raise
    except BaseException as trouble:  # noqa: BLE001 - the standard library trusts the exception's attributes
        return f"{describe(error)} (no traceback: {class_of(trouble)})"
