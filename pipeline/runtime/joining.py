"""What keeps this worker out of its group: aiokafka keeps an error for whoever polls next, and nobody polls here.

Most of it passes: then the join is tried again. What doesn't pass ends the process by name.
"""

import asyncio
import logging
import math
import time
from typing import Any

from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
    KafkaError,
    UnknownMemberIdError,
    UnsupportedVersionError,
    for_code,
)
from aiokafka.protocol.admin import DescribeGroupsRequest

from pipeline.core.errors import HardpartsError
from pipeline.core.failure import line_of
from pipeline.core.membership import some_of
from pipeline.runtime.clock import lease_now_s

log = logging.getLogger("hardparts.group")

LOOK_EVERY_S = 0.5
RETRY_FIRST_S, RETRY_CAP_S = 1.0, 10.0
WHO_WITHIN_S = 2.0
GROUP_FULL, FENCED_INSTANCE = 81, 82
"""Codes that aiokafka 0.14 doesn't know."""
MIXED = InconsistentGroupProtocolError.errno
FATAL = {
    InvalidSessionTimeoutError.errno: "the broker doesn't allow this session timeout: set HARDPARTS_SESSION_TIMEOUT_S "
    "between its group.min.session.timeout.ms and group.max.session.timeout.ms",
    InvalidGroupIdError.errno: "the broker doesn't take the name of the group: set HARDPARTS_APP_ID",
    FENCED_INSTANCE: "another worker has joined under the same instance name: give each its own HARDPARTS_INSTANCE",
    UnsupportedVersionError.errno: "the broker is too old for the group's requests, or too new",
    GroupAuthorizationFailedError.errno: "an ACL keeps this user out: grant Read on the group (docs/security.md)",
}
"""Code → what it means; trying again changes nothing."""
FULL = "the group has as many members as the broker allows (group.max.size)"


class NotAMember(HardpartsError):
    """The group has refused this worker for good, or what runs in the background for it has broken."""


class OtherProtocol(HardpartsError):
    """The broker, not one of our workers, has given out the partitions."""


class Joining:
    """Looks after one consumer, in its thread. group: its id. static_session_s: its session timeout, if it has a
    name there of its own; None: the broker names it.

    failure: after which this process can't be a member any more. trouble: since when (time.monotonic) it has tried to
    join, and what is in the way.
    """

    def __init__(self, consumer: Any, group: str, static_session_s: float | None) -> None:
        self._consumer, self._group, self._static_session_s = consumer, group, static_session_s
        self._code = 0
        self._joined_at_s = -math.inf
        self._delay_s = RETRY_FIRST_S
        self.failure: BaseException | None = None
        self.trouble: tuple[float, str] | None = None

    def answered(self, code: int, *, heartbeat: bool) -> None:
        """The broker has answered a join, sync or heartbeat with this error code."""
        if code:
            self._code = code
        if code == UnknownMemberIdError.errno and heartbeat and self._in_static_session():
            # aiokafka's heartbeat doesn't carry the instance name, so the broker can't answer FENCED_INSTANCE.
            self.failure = self._refused(FENCED_INSTANCE, "the broker doesn't know this member any more")

    def joined(self) -> None:
        """A sync or a heartbeat was answered well."""
        self.trouble, self._joined_at_s = None, lease_now_s()

    async def watch(self) -> None:
        """Until the consumer is closed, or has failed for good."""
        while not self._consumer._closed and self.failure is None:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self._look()
            except Exception:  # nobody waits for this task, and without it no join is tried again
                log.exception("group %s: can't tell whether this worker is a member", self._group)
                await asyncio.sleep(RETRY_CAP_S)

    async def _look(self) -> None:
        coordinator = self._consumer._coordinator
        error, broken = coordinator._pending_exception, self._broken(coordinator)
        if broken is not None:
            self.failure = broken
        if self.failure is not None or error is None:
            return
        code, self._code = _code_of(error) or self._code, 0
        if code in FATAL:
            self.failure = self._refused(code, line_of(error))
            return
        if self.trouble is None:
            self._delay_s = RETRY_FIRST_S
        since = time.monotonic() if self.trouble is None else self.trouble[0]
        self.trouble = since, await self._described(code, error)
        log.warning("%s; trying again in %.0f s", self.trouble[1], self._delay_s)
        await asyncio.sleep(self._delay_s)
        self._delay_s = min(self._delay_s * 2, RETRY_CAP_S)
        _try_again(coordinator)

    def _in_static_session(self) -> bool:
        session_s = self._static_session_s
        return session_s is not None and lease_now_s() - self._joined_at_s < session_s

    def _refused(self, code: int, said: str) -> NotAMember:
        return NotAMember(f"group {self._group}: {FATAL[code]} ({said})")

    def _broken(self, coordinator: Any) -> BaseException | None:
        """Why a background task has ended that must not; None while all run, or while the consumer closes."""
        if self._consumer._closed:
            return None
        for task in (coordinator._coordination_task, self._consumer._fetcher._fetch_task):
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                cause = error.__cause__
                return cause if isinstance(cause, HardpartsError) else error
        return None

    async def _described(self, code: int, error: BaseException) -> str:
        where = f"group {self._group}"
        if code == MIXED:
            return f"{where} has members of another kind{await self._who()}: stop them, or give them another group"
        if code == GROUP_FULL:
            return f"{where}: {FULL}"
        return f"{where}: {line_of(error)}"

    async def _who(self) -> str:
        """The members, for people; "" when it can't be asked."""
        coordinator = self._consumer._coordinator
        try:
            async with asyncio.timeout(WHO_WITHIN_S):
                answer = await self._consumer._client.send(
                    coordinator.coordinator_id, DescribeGroupsRequest([self._group])
                )
        except (KafkaError, OSError, TimeoutError, NotImplementedError):
            return ""
        ((_, _, _, _, protocol, members, *_),) = answer.groups
        names = {f"{client_id} at {host.removeprefix('/')}" for _, client_id, host, *_ in members}
        if not names:
            return " (not named by the broker: they use Kafka's newer `consumer` protocol)"
        return f" (assignor {protocol}: {some_of(names)})"


def _try_again(coordinator: Any) -> None:
    """What a poll would do, and a join, since the task that has failed may be the heartbeat's."""
    coordinator._pending_exception = None
    coordinator.request_rejoin()
    consumed, coordinator._error_consumed_fut = coordinator._error_consumed_fut, None
    if consumed is not None and not consumed.done():
        consumed.set_result(None)


def _code_of(error: BaseException) -> int:
    """0 when aiokafka has wrapped it into a plain KafkaError."""
    code = getattr(error, "errno", 0)
    return code if isinstance(code, int) and for_code(code) is type(error) else 0
