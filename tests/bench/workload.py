"""The input that every peer reads: comments of many users, some sent twice, made from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

INPUT_TOPIC = "user-events"
RECENT_EVENTS_MAX = 50_000  # a duplicate repeats one of these; bounds the memory of the generator
WORDS = ("the", "hard", "parts", "of", "a", "stream", "are", "order", "loss", "and", "counting", "things", "once")


@dataclass(frozen=True, slots=True)
class Comment:
    """One record of the input topic: key and JSON value, about 150 bytes together."""

    user_id: int
    value: bytes

    @property
    def key(self) -> bytes:
        """The record key: the user's id as text."""
        return str(self.user_id).encode()


@dataclass(slots=True)
class Workload:
    """A reproducible input and, once it was generated, what must come out of it.

    `events` records in all, of which a share of `duplicates` (0 to 1) repeats the bytes of an earlier one.
    """

    events: int
    users: int = 10_000
    duplicates: float = 0.05
    seed: int = 1
    applied_by_user: Counter[int] = field(default_factory=Counter)

    @property
    def applied(self) -> int:
        """How many outputs a correct peer writes, counted while `comments` was consumed."""
        return self.applied_by_user.total()

    def comments(self) -> Iterator[Comment]:
        """Generate the input from the start."""
        rng = random.Random(self.seed)
        self.applied_by_user.clear()
        recent: list[Comment] = []
        for _ in range(self.events):
            if recent and rng.random() < self.duplicates:
                yield recent[rng.randrange(len(recent))]
                continue
            comment = new_comment(rng, rng.randrange(self.users) + 1)
            self.applied_by_user[comment.user_id] += 1
            if len(recent) < RECENT_EVENTS_MAX:
                recent.append(comment)
            else:
                recent[rng.randrange(RECENT_EVENTS_MAX)] = comment
            yield comment


def new_comment(rng: random.Random, user_id: int) -> Comment:
    """A comment with a fresh version 4 msg_id, written the way `json.dumps` writes it."""
    msg_id = UUID(int=rng.getrandbits(128), version=4)
    msg = f"{rng.choice(WORDS)} {rng.choice(WORDS)} {rng.choice(WORDS)} {rng.choice(WORDS)}"
    value = f'{{"msg_id": "{msg_id}", "type": "comment.created", "data": {{"user_id": {user_id}, "msg": "{msg}"}}}}'
    return Comment(user_id, value.encode())
