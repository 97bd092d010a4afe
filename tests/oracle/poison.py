"""Records that must end in the error topic, one way each; the ways are drawn by the generator's seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.oracle.records import Headers


@dataclass(frozen=True, slots=True)
class Spoilt:
    """A poison record. `reusable`: its msg_id was readable, so a good event with the same id may follow and counts."""

    kind: str
    key: bytes | None
    value: bytes | None
    reusable: bool = False
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """What a poison record is made from: the user's key and its id as JSON, and an unused msg_id."""

    key: bytes
    user: str
    msg_id: str

    def event(self, *, msg_id: str | None = None, data: str | None = None, kind: str = "comment.created") -> bytes:
        """A comment as JSON text, each part replaceable by other JSON text."""
        shown = json.dumps(self.msg_id) if msg_id is None else msg_id
        body = f'{{"user_id":{self.user},"msg":"hello"}}' if data is None else data
        return f'{{"msg_id":{shown},"type":"{kind}","data":{body}}}'.encode()


Way = Callable[[Draft, Random], Spoilt]
_NOTES: Headers = (("note", b"first"), ("note", b"second"), ("empty", None), ("raw", b"\xff\x00\r\n\x1b[31m"))
_SPOOFED: Headers = (("hp-source-offset", b"0"), ("hp-source-topic", b"elsewhere"), ("kept", b"1"))


def _value(kind: str, value: bytes | None, headers: Headers = ()) -> Way:
    return lambda draft, rng: Spoilt(kind, draft.key, value, headers=headers)


def _data(kind: str, template: str) -> Way:
    """A comment whose data is `template` with U for the user's id: its msg_id is good."""
    return lambda draft, rng: Spoilt(kind, draft.key, draft.event(data=template.replace("U", draft.user)), True)


def _msg_id(kind: str, shown: str) -> Way:
    """A comment whose msg_id is the JSON text `shown` with M for a good one."""
    return lambda draft, rng: Spoilt(kind, draft.key, draft.event(msg_id=shown.replace("M", draft.msg_id)))


def _key(kind: str, key: Callable[[Draft, Random], bytes | None]) -> Way:
    return lambda draft, rng: Spoilt(kind, key(draft, rng), draft.event(), False, _NOTES)


def _whole(kind: str, spoil: Callable[[bytes], bytes]) -> Way:
    return lambda draft, rng: Spoilt(kind, draft.key, spoil(draft.event()), False)


WAYS: tuple[Way, ...] = (
    _value("not JSON", b"Robert'); drop table students", _NOTES),
    _value("empty value", b""),
    _value("tombstone", None, _NOTES),
    _value("null", b"null"),
    _value("list", b"[]"),
    _value("number", b"1"),
    _value("random bytes", bytes(range(128, 160)), _SPOOFED),
    _value("open brackets", b"[" * 5000),
    _whole("truncated", lambda event: event[:-3]),
    _whole("byte order mark", lambda event: b"\xef\xbb\xbf" + event),
    _whole("invalid UTF-8 inside", lambda event: event.replace(b"hello", b"h\xffllo")),
    _whole("control character inside", lambda event: event.replace(b"hello", b"h\nllo")),
    _whole("trailing text", lambda event: event + b"{}"),
    _whole("too deep", lambda event: event[:-1] + b',"extra":' + b"[" * 3000 + b"]" * 3000 + b"}"),
    _whole("msg_id twice", lambda event: event[:-1] + b',"msg_id":"8700635f-1802-417e-89e7-595ad3600104"}'),
    _whole("unknown type", lambda event: event.replace(b"comment.created", b"comment.deleted")),
    _whole("type missing", lambda event: event.replace(b'"type":"comment.created",', b"")),
    _msg_id("msg_id empty", '""'),
    _msg_id("msg_id null", "null"),
    _msg_id("msg_id an object", "{}"),
    _msg_id("msg_id with a newline", '"M\\n"'),
    _msg_id("msg_id with braces", '"{M}"'),
    _msg_id("msg_id of version 1", '"8700635f-1802-117e-89e7-595ad3600104"'),
    _whole("msg_id missing", lambda event: b'{"' + event[event.index(b"type") :]),
    _data("msg missing", '{"user_id":U}'),
    _data("msg a number", '{"user_id":U,"msg":7}'),
    _data("msg a lone surrogate", '{"user_id":U,"msg":"\\ud83d"}'),
    _data("user_id missing", '{"msg":"hello"}'),
    _data("user_id null", '{"user_id":null,"msg":"hello"}'),
    _data("user_id true", '{"user_id":true,"msg":"hello"}'),
    _data("user_id text", '{"user_id":"abc","msg":"hello"}'),
    _data("user_id a float", '{"user_id":1.0,"msg":"hello"}'),
    _data("user_id twice", '{"user_id":U,"user_id":U,"msg":"hello"}'),
    _data("user_id beyond int64", '{"user_id":18446744073709551616,"msg":"hello"}'),
    _data("5,000 digits", '{"user_id":U,"msg":"hello","n":' + "9" * 5000 + "}"),
    _data("NaN", '{"user_id":U,"msg":"hello","n":NaN}'),
    _data("1e400", '{"user_id":U,"msg":"hello","n":1e400}'),
    _data("data a list", "[]"),
    _key("null key", lambda draft, rng: None),
    _key("empty key", lambda draft, rng: b""),
    _key("key of another user", lambda draft, rng: b"9" + draft.key),
    _key("key with a leading zero", lambda draft, rng: b"0" + draft.key),
    _key("key not UTF-8", lambda draft, rng: b"\xff\xfe" + draft.key),
    _key("key of the table's own", lambda draft, rng: b"__faust\x00offset__"),
    _key("random key", lambda draft, rng: rng.randbytes(8)),
)


def poison(rng: Random, draft: Draft) -> Spoilt:
    """A poison record in one of the ways, drawn by `rng`."""
    return rng.choice(WAYS)(draft, rng)
