"""Hypothesis strategies for hostile records. A shape has a stand-in for its msg_id; each copy gets one of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.oracle.records import Headers

MSG_ID = "00000000-0000-4000-8000-000000000000"
USER = "7"
DEPTH_MAX = 254


class Shape(NamedTuple):
    """A record before it is sent; `kind` names the strategy that drew it."""

    kind: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def event(*, msg_id: str = f'"{MSG_ID}"', kind: str = '"comment.created"', user: str = USER, more: str = "") -> str:
    """A comment as JSON text; each part may be other text, `more` comes behind the user's id."""
    return f'{{"msg_id":{msg_id},"type":{kind},"data":{{"user_id":{user},"msg":"hello"{more}}}}}'


_TEXTS = st.text(max_size=30) | st.text('{}[]":,.eE+-019 \\u\n\0', max_size=60)
_FLOATS = st.floats(allow_nan=True, allow_infinity=True)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _FLOATS | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)
_JSON_TEXT = st.builds(lambda value, ascii_only: json.dumps(value, ensure_ascii=ascii_only), _JSON, st.booleans())
_NUMBERS = st.one_of(
    st.sampled_from(["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1.0", "7.0", "7e0", "-0", "-0.0", "07", "+7"]),
    st.sampled_from([str(sign * 2**bits + one) for bits in (31, 53, 63, 64) for one in (-1, 0, 1) for sign in (1, -1)]),
    st.builds(lambda digit, count: digit * count, st.sampled_from("19"), st.integers(20, 5_000)),
    st.builds(lambda whole, power: f"{whole}E{power}", st.integers(), st.integers(-400, 400)),
)
_NAMES = st.sampled_from(["msg_id", "type", "data", "meta", "user_id", "msg", "a", "\\u006dsg_id", "\\u0075ser_id"])
_DEPTHS = st.integers(DEPTH_MAX - 4, DEPTH_MAX + 4) | st.integers(1_000, 3_000)


def _value(raw: bytes | None) -> Shape:
    return Shape("", USER.encode(), raw)


def _text(text: str) -> Shape:
    return _value(text.encode(errors="surrogatepass"))


def _nested(depth: int, opening: str, closing: str) -> str:
    return opening * depth + "1" * (opening != "[") + closing * depth


def _cut(first: int, last: int, put: bytes) -> Shape:
    whole = event().encode()
    first, last = sorted((first % len(whole), last % len(whole)))
    return _value(whole[:first] + put + whole[last:])


_NEST = st.builds(_nested, _DEPTHS, st.just("["), st.just("]")) | st.builds(
    _nested, _DEPTHS, st.just('{"a":'), st.just("}")
)
_HEADER_NAMES = st.text(max_size=20) | st.sampled_from(["traceparent", "hp-", "HP-source-offset", "", "hp-replay-id"])
_SPOOFED = st.sampled_from(
    [
        "hp-source-topic", "hp-source-partition", "hp-source-offset", "hp-error-class", "hp-error-message",
        "hp-omitted", "hp-replay-id", "hp-replay-count", "hp-attempts", "hp-agent",
    ]
)  # fmt: skip
_HEADER_VALUES = st.none() | st.binary(max_size=40) | st.sampled_from([b"0", b"\r\n", b"\x1b[31m", b"user-events"])


def _headers(names: SearchStrategy[str]) -> SearchStrategy[Headers]:
    return st.lists(st.tuples(names.filter(_is_utf8), _HEADER_VALUES), min_size=1, max_size=6).map(tuple)


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


_KEYS = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.text(max_size=20).filter(_is_utf8).map(str.encode),
    st.sampled_from([b"", b"07", b" 7", b"7\0", b"7\n", b"+7", b"\xff\xfe7", b"\xef\xbb\xbf7"]),
    st.sampled_from([b"__faust\0offset__", b"_offset", b"_fence"]),
)  # fmt: skip

STRATEGIES: dict[str, SearchStrategy[Shape]] = {
    "bytes": st.binary(max_size=300).map(_value),
    "tombstone": st.just(_value(None)),
    "text": _TEXTS.map(_text),
    "any JSON": _JSON_TEXT.map(_text),
    "broken JSON": st.builds(_cut, st.integers(0, 500), st.integers(0, 500), st.binary(max_size=8) | st.just(b"")),
    "odd msg_id": _JSON_TEXT.map(lambda shown: _text(event(msg_id=shown))),
    "odd type": _JSON_TEXT.map(lambda shown: _text(event(kind=shown))),
    "odd user_id": (_JSON_TEXT | _NUMBERS).map(lambda shown: _text(event(user=shown))),
    "odd data": _JSON_TEXT.map(lambda shown: _text(f'{{"msg_id":"{MSG_ID}","type":"comment.created","data":{shown}}}')),
    "odd meta": _JSON_TEXT.map(lambda shown: _text(f'{event()[:-1]},"meta":{shown}}}')),
    "number": _NUMBERS.map(lambda shown: _text(event(more=f',"n":[{shown}]'))),
    "key twice": st.builds(lambda name, shown: _text(f'{event()[:-1]},"{name}":{shown}}}'), _NAMES, _JSON_TEXT),
    "key twice inside": st.builds(lambda name: _text(event(more=f',"{name}":{USER}')), _NAMES),
    "lone surrogate": st.integers(0xD800, 0xDFFF).map(lambda code: _text(event(more=f',"n":"\\u{code:04x}"'))),
    "nested": _NEST.map(_text),
    "nested inside": _NEST.map(lambda shown: _text(event(more=f',"n":{shown}'))),
    "encoding": st.sampled_from(["utf-16", "utf-32", "utf-8-sig"]).map(lambda name: _value(event().encode(name))),
    "key": _KEYS.map(lambda key: Shape("", key, event().encode())),
    "headers": _headers(_HEADER_NAMES).map(lambda headers: Shape("", USER.encode(), b"{", headers)),
    "spoofed headers": _headers(_SPOOFED).map(lambda headers: Shape("", USER.encode(), b"{}", headers)),
}  # fmt: skip


def shapes() -> SearchStrategy[Shape]:
    """A record of any kind; some of them happen to be good events."""
    return st.one_of([drawn.map(_named(kind)) for kind, drawn in STRATEGIES.items()])


def _named(kind: str) -> Callable[[Shape], Shape]:
    return lambda shape: shape._replace(kind=kind)
