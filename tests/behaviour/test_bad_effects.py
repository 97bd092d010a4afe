"""Whatever a handler returns, raises or puts into an effect, its record is applied, rejected or blocked: nothing else.

Each case runs through the real unit of the kit, under both policies for bugs. A worker that ends would end again on the
same record after every restart.
"""

import asyncio
import functools
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents import topics
from pipeline.core.effects import Audit, Outside, Publish, Upsert, publish
from pipeline.core.errors import Blocking, Reject
from pipeline.core.views import Claims, Counter, Relation
from pipeline.testing import Kit
from tests.behaviour.small_agent import small_agent

CLAIMS, COUNT, OTHERS = Claims("claims"), Counter("count"), Relation("others")
POLICIES = pytest.mark.parametrize("on_bug", ["block", "error-topic"])
KINDS = pytest.mark.parametrize("kind", ["plain", "generator", "async", "async generator", "outside"])


class Scene:
    """One agent of one kind of handler and one policy; each case runs on a partition that has run others before."""

    def __init__(self, kind: str, on_bug: str) -> None:
        state = [COUNT, OTHERS] if kind in ("plain", "generator") else [CLAIMS, COUNT, OTHERS]
        agent = small_agent(
            {"comment.created": getattr(self, f"_{kind.replace(' ', '_')}")}, state=state, on_bug=on_bug
        )
        self.kit = Kit(agent, attempts_max=1)
        self._does = None

    def _plain(self, event, state):
        return self._does(event, state) if event.data["msg"] == "bad" else []

    def _generator(self, event, state):
        yield from self._plain(event, state) or ()

    async def _async(self, event, state):
        await asyncio.sleep(0)
        return self._plain(event, state)

    async def _async_generator(self, event, state):
        for effect in self._plain(event, state) or ():
            await asyncio.sleep(0)
            yield effect

    async def _outside(self, event, state):
        async def act() -> None:
            self._does(event, state)

        return [Outside(CLAIMS.name, act, "an act")] if event.data["msg"] == "bad" else []

    def became(self, does) -> str:
        """Run a good record, one of which the handler does `does`, and another good one; what became of the second."""
        self._does, kit = does, self.kit
        begin, rejected_before = kit.worker.unit(0).positions["user-events"], len(kit.rejections())
        for text in ("good", "bad", "good"):
            kit.given("comment.created", user_id=1, msg=text)
        kit.run()
        assert kit.worker.fatal is None, repr(kit.worker.fatal)
        rejected, blocked = kit.rejections()[rejected_before:], kit.blocked()
        kit.worker.context.metrics.text()
        if blocked is not None:
            assert not rejected
            assert blocked.record.offset == begin + 1 == kit.worker.unit(0).positions["user-events"]
            self._does = returning([])  # as after a deploy
            kit.run()
            assert kit.blocked() is None
            became = f"blocked: {blocked.reason}"
        elif rejected:
            (one,) = rejected
            assert one.hp["source-offset"] == str(begin + 1)
            became = f"rejected: {one.hp['error-class']}"
        else:
            became = "applied"
        assert kit.worker.unit(0).positions["user-events"] == begin + 3
        return became


@pytest.fixture(scope="module")
def scene():
    """The scene of a kind of handler and a policy."""
    yield (made := functools.cache(Scene))
    made.cache_clear()


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("no text either")

    __repr__ = __str__


class NotToBeCopied(Exception):
    """It can't be pickled or made again from its arguments, and holds what can't either."""

    def __init__(self, first, second) -> None:
        super().__init__(first)
        self.held = threading.Lock(), second

    def __reduce__(self):
        raise TypeError("no copies")


class NotAnException(BaseException):
    """What a library raises past `except Exception`."""


def raising(error):
    def does(_event, _state):
        raise error

    return does


def returning(effects):
    return lambda _event, _state: effects


def cyclic() -> Exception:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def nameless() -> Exception:
    return type("Odd\n" + "x" * 5000, (Exception,), {})("odd")


def without_message() -> Exception:
    class Mine(Reject):
        def __init__(self) -> None:
            pass

    return Mine()


def away_without_message() -> Exception:
    class Mine(Blocking):
        def __init__(self) -> None:
            pass

    return Mine()


def syntax() -> Exception:
    error = SyntaxError("odd")
    error.lineno, error.text, error.offset = "x", 5, object()
    error.filename = 7
    return error


BUGS = {
    "an exception without text": lambda: raising(Silent()),
    "an exception that can't be copied": lambda: raising(NotToBeCopied("a", "b")),
    "an exception with a text of 10 MB": lambda: raising(ValueError("x" * 10_000_000)),
    "an exception with a lone surrogate": lambda: raising(ValueError("\ud800")),
    "an exception with a nameless class": lambda: raising(nameless()),
    "an exception that is its own cause": lambda: raising(cyclic()),
    "a syntax error with odd parts": lambda: raising(syntax()),
    "a group": lambda: raising(ExceptionGroup("several", [Silent(), ValueError("x")])),
    "a group of base exceptions": lambda: raising(BaseExceptionGroup("several", [SystemExit(1)])),
    "SystemExit": lambda: raising(SystemExit(3)),
    "GeneratorExit": lambda: raising(GeneratorExit()),
    "CancelledError": lambda: raising(asyncio.CancelledError()),
    "MemoryError": lambda: raising(MemoryError()),
    "RecursionError": lambda: raising(RecursionError("deep")),
    "StopIteration": lambda: raising(StopIteration()),
    "StopAsyncIteration": lambda: raising(StopAsyncIteration()),
    "a base exception": lambda: raising(NotAnException("odd")),
}


@POLICIES
@KINDS
@pytest.mark.parametrize("bug", BUGS)
def test_an_odd_exception_is_a_bug_of_its_handler(scene, bug, kind, on_bug):
    outcome = scene(kind, on_bug).became(BUGS[bug]())
    if kind == "outside" and bug != "CancelledError":
        assert outcome == "applied"  # in doubt, which the audit topic says
    else:
        assert outcome.startswith("blocked: bug" if on_bug == "block" else "rejected: ")


@KINDS
@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: Reject(None), "rejected: Reject"),
        (lambda: Reject("x", explain=[1, 2]), "rejected: Reject"),
        (lambda: Reject(Silent()), "rejected: Reject"),
        (lambda: Reject("\ud800" * 10_000, "one line"), "rejected: Reject"),
        (without_message, "rejected: Mine"),
        (lambda: Blocking(None, None), "blocked: dependency"),
        (lambda: Blocking(Silent(), Silent()), "blocked: "),
        (lambda: Blocking("x", "\ud800\n" * 5000), "blocked: "),
        (away_without_message, "blocked: dependency"),
    ],
)
def test_a_reject_or_a_blocking_with_odd_parts_means_what_it_says(scene, kind, made, expected):
    assert scene(kind, "error-topic").became(raising(made())).startswith(expected)


@POLICIES
@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize(
    "result",
    ["text", "", b"", {}, {"a": 1}, 0, 5, False, 1.5, object(), [None], ["x"], [[]], Upsert("messages", {}), range(3)],
)
def test_a_result_that_is_no_effects_is_a_bug(scene, result, kind, on_bug):
    assert (
        scene(kind, on_bug)
        .became(returning(result))
        .startswith("blocked: bug" if on_bug == "block" else "rejected: TypeError")
    )


@pytest.mark.filterwarnings("error")
def test_a_plain_handler_that_returns_a_coroutine_is_told_to_be_async(scene):
    async def later():
        return []

    plain = scene("plain", "error-topic")
    assert plain.became(lambda _event, _state: later()) == "rejected: TypeError"
    assert "async def" in plain.kit.rejections()[-1].hp["error-message"]


ROW = {"msg_id": "m", "user_id": "1", "to_user_id": "2", "msg": "x"}


def deep():
    value: list = []
    for _ in range(100_000):
        value = [value]
    return value


def itself():
    value: dict = {}
    value["x"] = value
    return value


class Lazy(dict):
    """A mapping that fails when it is read."""

    def __iter__(self):
        raise RuntimeError("not now")

    keys = items = values = __iter__


BAD_EFFECTS = {
    "an audit with a number": lambda: Audit("k", {"n": 5}),
    "an audit without a kind": lambda: Audit(None, {}),
    "an audit without fields": lambda: Audit("k", None),
    "an audit past its constructor": lambda: Audit._make((None, {"n": 5})),
    "an audit replaced": lambda: Audit("k", {})._replace(fields={5: "x"}),
    "an upsert to no table": lambda: Upsert("nowhere", {"a": 1}),
    "an upsert to a table of no text": lambda: Upsert(["messages"], {"a": 1}),
    "an upsert of an unknown column": lambda: Upsert("messages", {**ROW, "colour": 1}),
    "an upsert without the primary key": lambda: Upsert("messages", {"msg": "x"}),
    "an upsert without a needed column": lambda: Upsert("messages", {"msg_id": "m"}),
    "greatest of an unknown column": lambda: Upsert("messages", ROW, greatest=("colour",)),
    "greatest of a column without a value": lambda: Upsert("comment_counts", {"user_id": "1"}, greatest=("count",)),
    "greatest that is no tuple": lambda: Upsert("messages", ROW, greatest=5),
    "greatest of a text": lambda: Upsert("messages", ROW, greatest="msg"),
    "greatest of the primary key": lambda: Upsert("messages", ROW, greatest=("msg_id",)),
    "an upsert of no mapping": lambda: Upsert("messages", [1]),
    "an upsert past its constructor": lambda: Upsert._make(("messages", [("msg_id", 1)], None)),
    "an upsert that fails when read": lambda: Upsert("messages", Lazy(ROW)),
    "an upsert of NaN": lambda: Upsert("comment_counts", {"user_id": "1", "count": float("nan")}),
    "an upsert of a set": lambda: Upsert("messages", {**ROW, "msg": {1, 2}}),
    "an upsert of an object": lambda: Upsert("messages", {**ROW, "msg": object()}),
    "an upsert of a dict": lambda: Upsert("messages", {**ROW, "msg": {}}),
    "an outside without claims": lambda: Outside("nowhere", lambda: None, "x"),
    "an outside with nothing to do": lambda: Outside("claims", None, "x"),
    "an outside without a name": lambda: Outside("claims", lambda: None, None),
    "an outside past its constructor": lambda: Outside._make(("claims", None, None)),
    "a publish without a topic": lambda: Publish(None, "comment.counted", {}),
    "a publish without a type": lambda: Publish(topics.comment_counts, None, {}),
    "a publish without data": lambda: Publish(topics.comment_counts, "comment.counted", None),
    "a publish with a number for a name": lambda: Publish(topics.comment_counts, "comment.counted", {}, 5),
    "a publish of a set": lambda: publish(topics.comment_counts, "comment.counted", user_id=1, count={1}),
    "a publish of NaN": lambda: publish(topics.comment_counts, "comment.counted", user_id=1, count=float("nan")),
    "a publish beyond 64 bits": lambda: publish(topics.comment_counts, "comment.counted", user_id=1, count=2**70),
    "a publish of a surrogate": lambda: publish(topics.comment_counts, "comment.counted", user_id="\ud800", count=1),
    "a publish that is deep": lambda: publish(topics.comment_counts, "comment.counted", user_id=deep(), count=1),
    "a publish of itself": lambda: publish(topics.comment_counts, "comment.counted", user_id=itself(), count=1),
    "a publish with keys of numbers": lambda: Publish(topics.comment_counts, "comment.counted", {5: 1}),
    "a publish that fails when read": lambda: Publish(topics.comment_counts, "comment.counted", Lazy(user_id=1)),
    "a publish to another topic": lambda: publish(topics.messages, "message.accepted", user_id=1, to=2, msg="x"),
}


@POLICIES
@pytest.mark.parametrize("kind", ["plain", "generator", "async generator"])
@pytest.mark.parametrize("effect", BAD_EFFECTS)
def test_an_effect_that_cannot_be_is_a_bug_of_its_handler(scene, effect, kind, on_bug):
    outcome = scene(kind, on_bug).became(lambda _event, _state: [BAD_EFFECTS[effect]()])
    assert outcome.startswith("blocked: bug" if on_bug == "block" else "rejected: ")


@pytest.mark.parametrize(
    "value", ["x" * 100_000, "\ud800", "nul\0", 2**70, None], ids=["long", "surrogate", "NUL", "2^70", "None"]
)
def test_a_value_that_the_database_cannot_hold_is_the_records_fault(scene, value):
    row = {"user_id": "1", "count": value}
    became = scene("plain", "block").became(lambda _event, _state: [Upsert("comment_counts", row)])
    assert became in ("rejected: DataRefused", "applied")  # SQLite holds any text


@POLICIES
def test_an_audit_with_odd_texts_is_written(scene, on_bug):
    fields = {"\ud800": "\ud800", "long": "x" * 100_000, "": "\0"}
    assert scene("plain", on_bug).became(lambda _event, _state: [Audit("\ud800" * 5000, fields)]) == "applied"


def test_an_audit_too_large_for_its_topic_says_so_instead(scene):
    big = Audit("big", {str(at): "x" * 4000 for at in range(1000)})
    plain = scene("plain", "block")
    assert plain.became(lambda _event, _state: [big]) == "applied"
    [audit] = [audit for audit in plain.kit.audits() if audit["kind"] == "big"]
    assert 0 < audit["omitted"] < 1000


@pytest.mark.parametrize(
    "does",
    [
        lambda state: state.put("row", "text"),
        lambda state: state.put(b"row", 5),
        lambda state: state.delete("row"),
        lambda state: state.get("row"),
        lambda state: COUNT.of(state).set("x"),
        lambda state: OTHERS.of(state).add("\ud800"),
    ],
)
def test_state_takes_only_bytes(scene, does):
    assert scene("plain", "error-topic").became(lambda _event, state: does(state)).startswith("rejected: ")


def test_ctrl_c_goes_through():
    kit = Kit(small_agent({"comment.created": raising(KeyboardInterrupt())}))
    kit.given("comment.created", user_id=1, msg="x")
    with pytest.raises(KeyboardInterrupt):
        kit.run()


def test_an_act_that_exits_is_in_doubt_and_not_repeated():
    acted = []

    def act(_event, _state):
        acted.append(1)
        raise SystemExit(2)

    outside = Scene("outside", "block")
    assert outside.became(act) == "applied"
    outside.kit.then_audited("in doubt")
    assert acted == [1]


class Hostile:
    """An object of which nothing can be asked."""

    def __getattribute__(self, _name):
        raise RuntimeError("ask nothing")

    __str__ = __repr__ = __bool__ = __len__ = __iter__ = __eq__ = __hash__ = lambda self: 1 / 0


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=5), st.complex_numbers(),
    st.text(st.characters(), max_size=5), st.sampled_from(["\ud800", "comment.counted", "messages", "count", "claims"]),
    st.builds(Hostile), st.builds(object), st.sampled_from([topics.comment_counts, topics.messages, Silent, len]),
    st.decimals(allow_nan=True), st.dates(), st.just(ROW),
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers(), st.none()), inner, max_size=3),
        st.dictionaries(st.sampled_from(["user_id", "count", "msg_id", "msg"]), inner, max_size=3),
    ),
    max_leaves=6,
)  # fmt: skip
EFFECTS = st.one_of(
    st.tuples(st.sampled_from([Publish, Upsert, Audit, Outside]), st.lists(ANYTHING, min_size=2, max_size=4)),
    st.tuples(st.just(functools.partial(publish, topics.comment_counts)), st.lists(ANYTHING, min_size=1, max_size=1)),
    st.tuples(st.just(functools.partial(Upsert, "messages")), st.lists(ANYTHING, min_size=1, max_size=2)),
    st.tuples(st.sampled_from([Publish._make, Upsert._make, Audit._make, Outside._make]), st.lists(
        st.lists(ANYTHING, min_size=2, max_size=4), min_size=1, max_size=1)),
)  # fmt: skip
CLASSES = st.sampled_from(
    [Reject, Blocking, ValueError, SystemExit, NotAnException, UnicodeDecodeError, OSError, Silent]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@POLICIES
@KINDS
@given(st.data())
def test_arbitrary_results_effects_and_exceptions_are_applied_rejected_or_blocked(scene, kind, on_bug, data):
    what = data.draw(st.sampled_from(["result", "effects", "exception"]))
    if what == "result":
        result = data.draw(ANYTHING)
        does = returning(result)
    elif what == "effects":
        parts = data.draw(st.lists(EFFECTS, min_size=1, max_size=3))
        does = lambda _event, _state: [make(*arguments) for make, arguments in parts]  # noqa: E731
    else:
        kinds, arguments = data.draw(CLASSES), data.draw(st.lists(ANYTHING, max_size=3))
        cause, attributes = data.draw(st.sampled_from([None, Silent()])), data.draw(st.dictionaries(
            st.sampled_from(["message", "explain", "dependency", "args", "code"]), ANYTHING, max_size=2))  # fmt: skip

        def does(_event, _state):
            error = kinds(*arguments)
            for name, value in attributes.items():
                setattr(error, name, value)
            raise error from cause

    assert scene(kind, on_bug).became(does).startswith(("applied", "rejected: ", "blocked: "))
