"""Describing a failure never fails, and what comes out can always be encoded."""

import asyncio

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.error_record import Failing, audit_record, error_record
from pipeline.core.failure import NAME_CHARS_MAX, STACK_CHARS_MAX, class_of, describe, lines, name, part, said, stack_of
from pipeline.core.outcome import Rejection
from pipeline.core.record import StoredRecord

RECORD = StoredRecord("user-events", 0, 5, 77, b"1", b"{}")
FAILING = Failing("group", "agent", "1", "user-events")
ODD_TEXT = st.text(st.characters(), max_size=20) | st.sampled_from(["\ud800", "\0", "x" * 100_000, "\r\n", ""])


class Liar(Exception):
    """Whatever is asked of it raises what it is given."""

    def __init__(self, raised: BaseException) -> None:
        self._raised = raised

    def _raise(self, *_: object) -> str:
        raise object.__getattribute__(self, "_raised")

    __str__ = __repr__ = _raise

    @property
    def message(self):
        self._raise()

    @property
    def __notes__(self):
        self._raise()


TROUBLE = st.sampled_from([ValueError("x"), SystemExit(1), asyncio.CancelledError(), GeneratorExit(), MemoryError()])
ERRORS = st.recursive(
    st.one_of(ODD_TEXT.map(ValueError), TROUBLE.map(Liar), st.builds(UnicodeError), st.just(SystemExit(None))),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda several: BaseExceptionGroup("several", several)),
    max_leaves=5,
)


@given(ERRORS, st.none() | ERRORS, ODD_TEXT)
@example(ValueError("x" * 5000), Liar(ValueError("x")), "")
def test_every_failure_has_a_text_that_can_be_encoded(error, cause, kind):
    error.__cause__ = cause
    message, stack, explain = describe(error), stack_of(error), lines(error)
    assert len(stack) <= STACK_CHARS_MAX
    assert len(class_of(error)) <= NAME_CHARS_MAX
    part(error, "message")
    rejection = Rejection(name(kind), message, explain, stack)
    written = error_record(RECORD, rejection, FAILING, "errors", 1, 1_000_000)
    assert all(isinstance(value, bytes) for _, value in written.headers)
    audit = audit_record("audit", kind, RECORD, FAILING, {kind or "x": message}, 1)
    assert orjson.loads(audit.value)["agent"] == "agent"


def test_a_cause_in_a_circle_and_a_long_chain_end():
    first = ValueError("first")
    last: BaseException = first
    for at in range(3000):
        error = ValueError(at)
        error.__cause__ = last
        last = error
    first.__cause__ = last
    assert "ValueError" in stack_of(last)


def test_an_explanation_is_lines_of_text():
    def breaks():
        yield "one"
        raise ValueError

    assert lines([1, "two"]) == ("1", "two")
    assert lines("one line") == ("one line",)
    assert lines(None) == lines("") == lines([]) == ()
    assert lines(5) == ("5",)
    assert len(lines(breaks())) == 1
    assert len(lines(iter(int, 1))) == 100
    assert said("\ud800") == "\\xd800"
    assert name("\n a\tb \n") == "a b"
    assert name("") == "unnamed"
