"""What is fed: events of a few hundred users, duplicates, conflicts and poison records. The same for the same seed."""

import itertools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from uuid import UUID

USERS, KNOWN = 300, 4
DUPLICATES, CONFLICTS, POISON = 0.05, 0.002, 0.005
RECENT = 2000
"""How far back a duplicate reaches, in records."""

KINDS = {"comment.created": 68, "user.followed": 12, "user.unfollowed": 4, "message.sent": 14, "team.joined": 2}
"""Types of events and how often each, in percent."""

TEXTS = ("first!", "me too", "naïve café, déjà vu", "line\nbreak", "'; DELETE FROM comments; --", "👍", "")
BOBBY = "Robert'); drop table students"
USER_EVENTS, TEAM_EVENTS = "user-events", "team-events"


class Sent(NamedTuple):
    """One record to send."""

    topic: str
    key: bytes
    value: bytes


Data = dict[str, Any]


def _changed(sent: Sent, old: str, new: str) -> Sent:
    return sent._replace(value=sent.value.decode().replace(old, new, 1).encode())


POISONS: tuple[Callable[[Sent], Sent], ...] = (
    lambda sent: sent._replace(value=sent.value[:-7]),
    lambda sent: _changed(sent, '"msg": "spoilt"', '"message": "spoilt"'),
    lambda sent: _changed(sent, "comment.created", "comment.cremated"),
    lambda sent: sent._replace(key=b"another-user"),
    lambda sent: _changed(sent, '"msg": "spoilt"', '"msg": "spoilt", "user_id": 1'),
    lambda sent: _changed(sent, '"msg_id": "', '"msg_id": "not-'),
    lambda sent: sent._replace(value=b"\xff\xfe\x00"),
)
"""Ways to spoil a good comment.created, so that no attempt can handle it."""


class Generator:
    """`records(n)`: n records, one of them Bobby's."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._users: list[int | str] = [*range(1, USERS + 1), *(str(self._uuid4()) for _ in range(USERS // 10))]
        self._random.shuffle(self._users)
        self._recent: list[Sent] = []
        self._poison = itertools.cycle(POISONS)

    def records(self, count: int) -> Iterator[Sent]:
        """`count` records in the order in which they are to be sent; Bobby's comes after a tenth of them."""
        for number in range(count):
            chance = self._random.random()
            if number == count // 10:
                yield self._bobby()
            elif chance < POISON:
                yield self._spoilt()
            elif self._recent and chance < POISON + CONFLICTS:
                yield self._conflict(self._random.choice(self._recent))
            elif self._recent and chance < POISON + CONFLICTS + DUPLICATES:
                yield self._random.choice(self._recent)
            else:
                yield self._fresh()

    def _fresh(self) -> Sent:
        pick = self._random
        kind = pick.choices(list(KINDS), list(KINDS.values()))[0]
        sent = self._event(kind, {"user_id": self._user(), **self._fields(kind)})
        self._recent.append(sent)
        if len(self._recent) > RECENT:
            self._recent.pop(pick.randrange(RECENT))
        return sent

    def _fields(self, kind: str) -> Data:
        match kind:
            case "comment.created":
                return {"msg": self._text()}
            case "message.sent":
                return {"to": self._known(), "msg": self._text()}
            case "team.joined":
                return {"team_id": self._random.randrange(1, 9)}
            case _:
                return {"followee_id": self._known()}

    def _event(self, kind: str, data: Data) -> Sent:
        event = {"msg_id": str(self._uuid4()), "type": kind, "data": data}
        topic = TEAM_EVENTS if kind == "team.joined" else USER_EVENTS
        return Sent(topic, str(data["user_id"]).encode(), json.dumps(event).encode())

    def _conflict(self, first: Sent) -> Sent:
        """The same msg_id with another content: somebody's bug, that must not count and must be seen."""
        event = json.loads(first.value)
        event["data"]["edited"] = True
        return first._replace(value=json.dumps(event).encode())

    def _bobby(self) -> Sent:
        return self._event("comment.created", {"user_id": BOBBY, "msg": "a mother's exploit"})

    def _spoilt(self) -> Sent:
        """The kinds of poison in turn, so that each occurs."""
        good = self._event("comment.created", {"user_id": self._user(), "msg": "spoilt"})
        return next(self._poison)(good)

    def _user(self) -> int | str:
        """Some users are busier than others."""
        return self._users[int(len(self._users) * self._random.random() ** 2)]

    def _known(self) -> int | str:
        """One of the few whom everybody knows, so that many messages go to somebody who is followed."""
        return self._users[self._random.randrange(KNOWN)]

    def _text(self) -> str:
        return self._random.choice(TEXTS)

    def _uuid4(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)
