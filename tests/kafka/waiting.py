"""Waiting for something to become true, with a limit and a message that says what was there instead."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiokafka.errors import KafkaError

POLL_S = 0.1

T = TypeVar("T")


async def answered(ask: Callable[[], Awaitable[T]], timeout_s: float = 30) -> T:
    """Ask until there is an answer: a broker may be away, and its partitions on their way to another one."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return await ask()
        except (KafkaError, OSError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(POLL_S)


async def until(holds: Callable[[], Any | Awaitable[Any]], timeout_s: float, what: str) -> Any:
    """Ask `holds` (may be async) until its answer is true and return that; AssertionError with the last answer.

    A broker that can't be reached counts as no.
    """
    deadline = time.monotonic() + timeout_s
    answer: Any = None
    while time.monotonic() < deadline:
        try:
            answer = holds()
            if inspect.isawaitable(answer):
                answer = await answer
        except (KafkaError, OSError) as error:
            answer = error
        else:
            if answer:
                return answer
        await asyncio.sleep(POLL_S)
    raise AssertionError(f"not within {timeout_s} s: {what}; last answer: {answer!r}")
