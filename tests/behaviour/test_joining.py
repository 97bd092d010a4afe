"""What keeps a worker out of its group, by what the client says; tests/kafka/test_other_members.py has a broker."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, InconsistentGroupProtocolError, KafkaError

from pipeline.runtime import joining
from pipeline.runtime.joining import Joining, NotAMember, OtherProtocol
from tests.kafka.waiting import until


def consumer(error: BaseException | None = None) -> Any:
    """As far as `Joining` looks at one: its coordinator keeps `error` for who polls next."""
    running = asyncio.get_running_loop().create_future()
    coordinator = SimpleNamespace(
        _pending_exception=error, _coordination_task=running, _error_consumed_fut=running.get_loop().create_future(),
        coordinator_id=1, rejoins=0,
    )  # fmt: skip
    coordinator.request_rejoin = lambda: setattr(coordinator, "rejoins", coordinator.rejoins + 1)

    async def send(*_: Any) -> Any:
        raise KafkaError("nobody answers")

    return SimpleNamespace(
        _closed=False, _coordinator=coordinator, _fetcher=SimpleNamespace(_fetch_task=running),
        _client=SimpleNamespace(send=send),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_EVERY_S", "RETRY_FIRST_S", "RETRY_CAP_S"):
        monkeypatch.setattr(joining, name, 0.01)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InconsistentGroupProtocolError(), 0, "group g has members of another kind"),
        (KafkaError("UnknownError"), 81, "group.max.size"),
        (KafkaError("Unexpected exception in heartbeat task"), 0, "Unexpected exception in heartbeat task"),
    ],
)
async def test_what_passes_is_tried_again_and_named(error: KafkaError, code: int, text: str) -> None:
    one = consumer(error)
    looked = Joining(one, "g", None)
    looked.answered(code, heartbeat=False)
    watching = asyncio.create_task(looked.watch())
    await until(lambda: one._coordinator.rejoins, 5, "it joins again")
    assert one._coordinator._pending_exception is None
    assert looked.trouble is not None
    assert text in looked.trouble[1]
    assert looked.failure is None
    looked.joined()
    assert looked.trouble is None
    watching.cancel()


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (GroupAuthorizationFailedError("g"), 0, "docs/security.md"),
        (KafkaError("UnknownError"), 82, "HARDPARTS_INSTANCE"),
        (KafkaError("UnsupportedVersionError()"), 35, "too old"),
    ],
)
async def test_what_does_not_pass_is_a_failure_with_a_remedy(error: KafkaError, code: int, text: str) -> None:
    looked = Joining(consumer(error), "g", None)
    looked.answered(code, heartbeat=False)
    await asyncio.wait_for(looked.watch(), 5)
    assert isinstance(looked.failure, NotAMember)
    assert text in str(looked.failure)


@pytest.mark.parametrize("task", ["_coordination_task", "_fetch_task"])
async def test_a_background_task_that_has_ended_is_a_failure(task: str) -> None:
    one, ended = consumer(), asyncio.get_running_loop().create_future()
    setattr(one._coordinator if task == "_coordination_task" else one._fetcher, task, ended)
    error = KafkaError("unexpected")
    error.__cause__ = OtherProtocol("the broker assigns")
    ended.set_exception(error)
    looked = Joining(one, "g", None)
    await asyncio.wait_for(looked.watch(), 5)
    assert str(looked.failure) == "the broker assigns"


@pytest.mark.parametrize("static_session_s", [None, 30.0])
async def test_only_a_static_member_that_is_forgotten_in_its_session_has_been_replaced(
    static_session_s: float | None,
) -> None:
    looked = Joining(consumer(), "g", static_session_s)
    looked.answered(25, heartbeat=True)
    assert looked.failure is None  # not joined yet
    looked.joined()
    looked.answered(25, heartbeat=False)
    assert looked.failure is None
    looked.answered(25, heartbeat=True)
    assert (looked.failure is None) == (static_session_s is None)


async def test_a_session_goes_on_while_the_machine_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker has forgotten a static member that slept longer than its session: nobody has taken its place."""
    suspended_s = 0.0
    monkeypatch.setattr(joining, "lease_now_s", lambda: 100.0 + suspended_s)
    looked = Joining(consumer(), "g", 30.0)
    looked.joined()
    suspended_s = 3600.0
    looked.answered(25, heartbeat=True)
    assert looked.failure is None


async def test_a_look_that_fails_is_logged_and_the_next_ones_go_on(caplog: pytest.LogCaptureFixture) -> None:
    one = consumer()
    coordinator, one._coordinator = one._coordinator, None
    looked = Joining(one, "g", None)
    watching = asyncio.create_task(looked.watch())
    await until(lambda: "can't tell whether this worker is a member" in caplog.text, 5, "it is logged")
    coordinator._pending_exception = KafkaError("odd")
    one._coordinator = coordinator
    await until(lambda: coordinator.rejoins, 5, "it joins again")
    watching.cancel()
