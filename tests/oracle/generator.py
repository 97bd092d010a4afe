"""Input for the pipeline, drawn from a seed: the same seed and mix give the same records, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from tests.oracle.poison import Draft, poison
from tests.oracle.records import TEAM_EVENTS, USER_EVENTS, Headers

TEXTS = (
    "hello",
    "Robert'); drop table students",
    "",
    "naïve 🦆",
    'a "quoted" \\ text',
    "line\nbreak\x00\x1b[31m",
    "x" * 200,
)
RECENT_MAX = 4096


class Made(NamedTuple):
    """A record to produce. `kind` says what it is meant to be: an event type, `duplicate`, `conflict`, `poison: …`."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    kind: str


@dataclass(frozen=True, slots=True)
class Mix:
    """events: records in all. The shares are of all records; what is left are good events of the five types.

    neighbours: how many others a user follows and writes to, so that messages meet followed and unfollowed users.
    corrected: share of poison records with a good msg_id that come again, mended, under the same msg_id.
    """

    events: int = 10_000
    users: int = 500
    neighbours: int = 4
    duplicates: float = 0.05
    poison: float = 0.005
    conflicts: float = 0.001
    team: float = 0.05
    meta: float = 0.1
    corrected: float = 0.5


class _User(NamedTuple):
    key: bytes
    shown: str
    neighbours: tuple[int, ...]


class _Past(NamedTuple):
    topic: str
    user: _User
    msg_id: str
    rest: str


def generate(seed: int, mix: Mix | None = None) -> Iterator[Made]:
    """Records in the order in which they must be produced: those of one user are causal."""
    mix = mix or Mix()
    rng = Random(seed)
    users = _users(rng, mix)
    past: list[_Past] = []
    mended: list[_Past] = []
    conflict = mix.duplicates + mix.conflicts
    spoilt = conflict + mix.poison
    for _ in range(mix.events):
        draw = rng.random()
        if draw < conflict and past:
            yield _again(rng, past[rng.randrange(len(past))], conflicting=draw >= mix.duplicates)
            continue
        user = users[rng.randrange(mix.users)]
        if draw < conflict or draw >= spoilt:
            event = mended.pop() if mended and rng.random() < 0.2 else _event(rng, user, users, mix)
            if len(past) < RECENT_MAX:
                past.append(event)
            else:
                past[rng.randrange(RECENT_MAX)] = event
            yield _good(rng, event, mix)
            continue
        msg_id = _uuid4(rng)
        topic = TEAM_EVENTS if rng.random() < mix.team else USER_EVENTS
        bad = poison(rng, Draft(user.key, user.shown, msg_id))
        if bad.reusable and rng.random() < mix.corrected:
            mended.append(_Past(USER_EVENTS, user, msg_id, _comment(rng, user)))
        yield Made(topic, bad.key, bad.value, bad.headers, f"poison: {bad.kind}")


def _users(rng: Random, mix: Mix) -> list[_User]:
    users = []
    for number in range(mix.users):
        neighbours = tuple(rng.randrange(mix.users) for _ in range(mix.neighbours))
        if rng.random() < 0.8:
            text = str(number - 3 if rng.random() < 0.99 else 2**63 - 1 - number)
            users.append(_User(text.encode(), text, neighbours))
        else:
            name = _uuid4(rng)
            shown = name.upper() if rng.random() < 0.3 else name
            users.append(_User(name.encode(), f'"{shown}"', neighbours))
    return users


_SHOWN = tuple(json.dumps(text, ensure_ascii=index % 2 == 0) for index, text in enumerate(TEXTS))


def _comment(rng: Random, user: _User) -> str:
    return f',"type":"comment.created","data":{{"user_id":{user.shown},"msg":{_SHOWN[rng.randrange(len(_SHOWN))]}}}'


def _event(rng: Random, user: _User, users: list[_User], mix: Mix) -> _Past:
    msg_id, draw = _uuid4(rng), rng.random()
    if draw < mix.team:
        rest = f',"type":"team.joined","data":{{"user_id":{user.shown},"team_id":{rng.randrange(100)}}}'
        return _Past(TEAM_EVENTS, user, msg_id, rest)
    if draw < 0.6:
        return _Past(USER_EVENTS, user, msg_id, _comment(rng, user))
    other = users[user.neighbours[rng.randrange(mix.neighbours)]].shown
    if draw < 0.8:
        text = _SHOWN[rng.randrange(len(_SHOWN))]
        rest = f',"type":"message.sent","data":{{"user_id":{user.shown},"to":{other},"msg":{text}}}'
    else:
        kind = "user.followed" if draw < 0.92 else "user.unfollowed"
        rest = f',"type":"{kind}","data":{{"user_id":{user.shown},"followee_id":{other}}}'
    return _Past(USER_EVENTS, user, msg_id, rest)


def _good(rng: Random, event: _Past, mix: Mix) -> Made:
    tail = ',"meta":{"source":"web","n":[1,2.5,null]}' if rng.random() < mix.meta else ""
    headers: Headers = (("traceparent", b"00-%032x-%016x-01" % (rng.getrandbits(128), 1)),) if tail else ()
    value = f'{{"msg_id":"{event.msg_id}"{event.rest}{tail}}}'.encode()
    return Made(event.topic, event.user.key, value, headers, event.rest[9 : event.rest.index('"', 9)])


def _again(rng: Random, event: _Past, conflicting: bool) -> Made:
    """The same msg_id once more: as it was, with other meta, with the id in upper case; or with another body."""
    if conflicting:
        changed = f',"type":"comment.created","data":{{"user_id":{event.user.shown},"msg":"again {rng.random()}"}}'
        if event.topic == TEAM_EVENTS:
            changed = (
                f',"type":"team.joined","data":{{"user_id":{event.user.shown},"team_id":{rng.randrange(100, 200)}}}'
            )
        return Made(event.topic, event.user.key, f'{{"msg_id":"{event.msg_id}"{changed}}}'.encode(), (), "conflict")
    way = rng.random()
    shown = event.msg_id.upper() if way < 0.2 else event.msg_id
    tail = ',"meta":{"attempt":2}' if 0.1 < way < 0.4 else ""
    return Made(event.topic, event.user.key, f'{{"msg_id":"{shown}"{event.rest}{tail}}}'.encode(), (), "duplicate")


def _uuid4(rng: Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[int(digits[16], 16) & 3]}{digits[17:20]}-{digits[20:]}"
    )
