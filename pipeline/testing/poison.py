"""Records that no agent accepts, by what is wrong with them (E1): each must become exactly one error record."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

_ID = b"8700635f-1802-417e-89e7-595ad3600104"


class Poison(NamedTuple):
    """The bytes of one hostile record."""

    value: bytes | None
    key: bytes | None = b"1"


def _event(
    msg_id: bytes = b'"' + _ID + b'"', data: bytes = b'{"user_id":1,"msg":"x"}', type_: bytes = b'"comment.created"'
) -> bytes:
    return b'{"msg_id":' + msg_id + b',"type":' + type_ + b',"data":' + data + b"}"


POISON: Mapping[str, Poison] = MappingProxyType(
    {
        "tombstone": Poison(None),
        "empty": Poison(b""),
        "sql injection": Poison(b"Robert'); drop table students"),
        "not UTF-8": Poison(b"\xff\xfe\x00"),
        "byte order mark": Poison(b"\xef\xbb\xbf" + _event()),
        "truncated": Poison(_event()[:-2]),
        "list": Poison(b"[" + _event() + b"]"),
        "scalar": Poison(b"42"),
        "deeply nested": Poison(b"[" * 100_000 + b"]" * 100_000),
        "lone surrogate": Poison(_event(data=b'{"user_id":1,"msg":"\\ud800"}')),
        "NaN": Poison(_event(data=b'{"user_id":NaN,"msg":"x"}')),
        "infinite": Poison(_event(data=b'{"user_id":1e400,"msg":"x"}')),
        "beyond int64": Poison(_event(data=b'{"user_id":18446744073709551616,"msg":"x"}')),
        "very long integer": Poison(_event(data=b'{"user_id":' + b"9" * 5000 + b',"msg":"x"}')),
        "float for an integer": Poison(_event(data=b'{"user_id":1.0,"msg":"x"}')),
        "boolean for an integer": Poison(_event(data=b'{"user_id":true,"msg":"x"}')),
        "null for a text": Poison(_event(data=b'{"user_id":1,"msg":null}')),
        "duplicate key": Poison(b'{"msg_id":"' + _ID + b'",' + _event()[1:]),
        "msg_id missing": Poison(b'{"type":"comment.created","data":{"user_id":1,"msg":"x"}}'),
        "msg_id null": Poison(_event(msg_id=b"null")),
        "msg_id empty": Poison(_event(msg_id=b'""')),
        "msg_id with a newline": Poison(_event(msg_id=b'"' + _ID + b'\\n"')),
        "msg_id of version 1": Poison(_event(msg_id=b'"8700635f-1802-117e-89e7-595ad3600104"')),
        "msg_id of a megabyte": Poison(_event(msg_id=b'"' + b"a" * 900_000 + b'"')),
        "unknown type": Poison(_event(type_=b'"no.such"')),
        "type not a text": Poison(_event(type_=b"7")),
        "field missing": Poison(_event(data=b'{"user_id":1}')),
        "null key": Poison(_event(), None),
        "key not UTF-8": Poison(_event(), b"\xff"),
        "key of another user": Poison(_event(), b"2"),
        "pickle": Poison(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtin\x94."),
    }
)
"""Name → record, all for the `user-events` topic; the last ones have a wrong key, the rest a wrong value."""
