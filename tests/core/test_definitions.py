"""What an application declares is checked when it is declared: nothing of it may fail at the first record."""

import functools
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.core.agent import Definition
from pipeline.core.effects import Audit, Outside, Publish, Upsert, publish
from pipeline.core.errors import Misconfigured
from pipeline.core.event import Event
from pipeline.core.tables import Columns, Tables
from pipeline.core.topic import Catalogue, Topic
from pipeline.core.views import Counter, MsgIdSet
from pipeline.runtime.agent import Agent
from pipeline.runtime.app import App

A, B = Topic("a"), Topic("b")


@pytest.mark.parametrize(
    "given",
    [
        {"name": 5}, {"name": ""}, {"name": "é"}, {"name": "a b"}, {"name": "a\n"},
        {"sources": ()}, {"sources": "a"}, {"sources": ("a",)}, {"sources": A}, {"sources": (A, A)}, {"sources": None},
        {"outputs": "b"}, {"outputs": ("b",)}, {"outputs": (B, B)}, {"outputs": 5},
        {"views": "count"}, {"views": (Counter,)}, {"views": (Counter("c"), Counter("c"))},
        {"views": {"c": Counter("c")}},
        {"blocking": ("ConnectionError",)}, {"blocking": "ConnectionError"}, {"blocking": (int,)}, {"blocking": int},
        {"blocking": (ConnectionError("x"),)}, {"blocking": None}, {"blocking": ((ConnectionError,),)},
        {"unknown": "Ignore"}, {"unknown": None}, {"unknown": []}, {"on_bug": "errors"}, {"on_bug": True},
        {"audit_repeats": "false"}, {"audit_repeats": 1}, {"audit_repeats": None},
    ],
    ids=repr,
)  # fmt: skip
def test_a_definition_that_would_fail_later_is_refused(given):
    with pytest.raises(Misconfigured, match=r"agent"):
        Definition(**{"name": "a", "sources": (A,), **given})


@pytest.mark.parametrize("blocking", [ConnectionError, (ConnectionError,), [ConnectionError], {ConnectionError}])
def test_blocking_is_one_exception_class_or_several(blocking):
    assert Definition("a", [A], blocking=blocking).blocking == (ConnectionError,)


class Callable:
    async def __call__(self, event):
        return []


def of_an_unknown_type(event: "NowhereToBeFound"):  # noqa: F821
    return []


@pytest.mark.parametrize(
    "handler",
    [
        None, "text", 5, Callable(), functools.partial(lambda event, more: [], more=1), Event, len,
        list, lambda a, b, c: [], lambda event, *, needed: [], of_an_unknown_type,
    ],
)  # fmt: skip
def test_a_handler_that_cannot_be_called_with_an_event_is_refused(handler):
    with pytest.raises(Misconfigured, match="handler of 'x'"):
        Definition("a", (A,)).on("x")(handler)


@pytest.mark.parametrize(
    ("handler", "takes_state"),
    [
        (lambda event: [], False), (lambda event, state: [], True), (lambda event, state=None: [], True),
        (lambda *both: [], True), (lambda event, *, option=1: [], False),
    ],
)  # fmt: skip
def test_a_handler_takes_the_event_and_perhaps_state(handler, takes_state):
    definition = Definition("a", (A,))
    definition.on("x")(handler)
    assert definition.handlers["x"].takes_state is takes_state


def test_a_decorated_handler_keeps_its_class_of_event():
    class Typed(Event):
        user_id: int

    def handler(event: Typed):
        return []

    @functools.wraps(handler)
    def wrapper(*arguments):
        return handler(*arguments)

    definition = Definition("a", (A,))
    definition.on("x")(wrapper)
    assert definition.handlers["x"].event_class is Typed
    with pytest.raises(Misconfigured, match="type of an event as text"):
        definition.on(Typed)


@pytest.mark.parametrize(
    "given",
    [
        {"name": None}, {"name": ""}, {"name": "a b"}, {"name": "x" * 250}, {"name": ".."}, {"name": "é"},
        {"key": 5}, {"key": ""}, {"owner": None}, {"partitions": 0}, {"partitions": "3"}, {"partitions": True},
        {"compacted": "no"}, {"retention_ms": 1.5}, {"retention_ms": -2}, {"config": {"a": "b"}},
        {"config": (("a", 1),)},
        {"config": ("ab",)},
    ],
    ids=repr,
)  # fmt: skip
def test_a_topic_that_no_broker_could_serve_is_refused(given):
    with pytest.raises(Misconfigured, match="topic"):
        Topic(**{"name": "a", **given})


@pytest.mark.parametrize("name", [None, 5, "", "_x", "a.b", "a\0b", "a\nb", "\ud800"])
def test_a_view_whose_name_makes_no_row_key_is_refused(name):
    with pytest.raises(Misconfigured, match="view's name"):
        Counter(name)


def test_a_msg_id_set_with_a_comma_would_be_two():
    with pytest.raises(Misconfigured, match="comma"):
        MsgIdSet("a,b")


@pytest.mark.parametrize("given", [{"catalogue": [A]}, {"modules": "agents.a"}, {"modules": [5]}, {"read_model": {}}])
def test_an_application_of_other_things_is_refused(given):
    with pytest.raises(Misconfigured, match=r"App\("):
        App(**{"catalogue": Catalogue(), "modules": [], "contracts": Path(), **given})
    with pytest.raises(Misconfigured, match="Topic"):
        Catalogue.of(["a"])
    with pytest.raises(Misconfigured, match="the application"):
        Agent("app", "a", sources=[A])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Publish("a", "x", {}), lambda: Publish(A, 5, {}), lambda: Publish(A, "x", [1]),
        lambda: Publish(A, "x", {}, 5), lambda: publish(A, "x", output=5),
        lambda: Upsert(None, {}), lambda: Upsert("t", None), lambda: Upsert("t", {}, "count"),
        lambda: Audit(None, {}), lambda: Audit("k", {"n": 5}), lambda: Audit("k", {5: "n"}),
        lambda: Audit("k", "fields"),
        lambda: Outside(Counter("c"), print, "x"), lambda: Outside("c", None, "x"), lambda: Outside("c", print, None),
    ],
)  # fmt: skip
def test_an_effect_says_at_once_what_is_wrong_with_it(make):
    with pytest.raises(TypeError, match=r"of a|view|act|what"):
        make()


TABLES = Tables(
    {
        "t": Columns(frozenset("abc"), frozenset("a"), frozenset("b")),
        "keyless": Columns(frozenset("a"), frozenset(), frozenset()),
    }
)


@pytest.mark.parametrize(
    ("upsert", "said"),
    [
        (Upsert("u", {"a": 1}), "declares no SQL table 'u'"),
        (Upsert("keyless", {"a": 1}), "no primary key"),
        (Upsert("t", {"a": 1, "b": 1, "x": 1}), "no column 'x': it has 'a', 'b', 'c'"),
        (Upsert("t", {"b": 1}), "needs a value for 'a'"),
        (Upsert("t", {"a": 1, "c": 1}), "needs a value for 'b'"),
        (Upsert("t", {"a": 1, "b": 1}, ("c",)), "greatest names 'c'"),
        (Upsert("t", {"a": 1, "b": 1}, ("a",)), "greatest names 'a'"),
        (Upsert("t", {"a": 1, "b": float("nan")}), "NaN"),
        (Upsert("t", {"a": 1, "b": Decimal("nan")}), "NaN"),
    ],
)
def test_a_row_that_does_not_fit_its_table_is_refused(upsert, said):
    for _ in range(2):
        with pytest.raises(TypeError, match=said):
            TABLES.fitted(upsert)


def test_a_row_that_fits_is_taken_as_it_is():
    row = Upsert("t", {"a": 1, "b": float("inf")}, ("b",))
    assert TABLES.fitted(row) is row
    assert TABLES.fitted(Upsert("t", row.values, ["b"])) == row
