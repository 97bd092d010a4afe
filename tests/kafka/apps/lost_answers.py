"""The product's application, whose brokers' answers to some commits of transactions are lost: each was carried out."""

from collections.abc import Mapping
from itertools import count
from typing import Any

from agents.app import app
from pipeline.runtime.ownership import ProducerBroken
from pipeline.runtime.transaction import TransactionalOwner

__all__ = ["app"]
EVERY = 5

_commit = TransactionalOwner.commit
_commits = count(1)


async def commit(self: TransactionalOwner, offsets: Mapping[tuple[str, int], int], *more: Any) -> None:
    """Every fifth commit with offsets happens, and looks as if it had not."""
    await _commit(self, offsets, *more)
    if offsets and next(_commits) % EVERY == 0:
        print("the answer to a commit is lost", flush=True)
        raise ProducerBroken("the answer is lost")


TransactionalOwner.commit = commit  # type: ignore[method-assign]
