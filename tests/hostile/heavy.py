"""The few hostile records that are large: too deep, too long, near what the broker takes, and compressed bombs."""

from __future__ import annotations

from collections.abc import Callable

from tests.hostile.shapes import USER, Shape, event

DEEP = 100_000
NEAR_LIMIT_BYTES = 899_000
"""With its headers, the error record of such a value is larger than what the worker's producer sends."""
MEGABYTE = 1_000_000

KEY = USER.encode()


def _make(kind: str, value: bytes) -> Shape:
    return Shape(kind, KEY, value)


HEAVY: tuple[Callable[[], Shape], ...] = (
    lambda: _make("list 100,000 deep", b"[" * DEEP + b"]" * DEEP),
    lambda: _make("objects 100,000 deep", b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    lambda: _make("unknown field 100,000 deep", event(more=',"n":' + "[" * DEEP + "]" * DEEP).encode()),
    lambda: _make("msg_id of a megabyte", event(msg_id=f'"{"0" * (MEGABYTE - 200_000)}"').encode()),
    lambda: _make("near the limit", b"x" * NEAR_LIMIT_BYTES),
    lambda: _make("above the limit of an error record", b"{" + b" " * 950_000),
    lambda: _make("800,000 digits", event(more=',"n":' + "9" * 800_000).encode()),
    lambda: _make("200,000 lists and a bad msg_id", event(msg_id="1", more=',"n":[' + "[]," * 200_000 + "1]").encode()),
    lambda: _make("integral floats for an id", event(user="1.0", more=',"n":[' + "1.0," * 200_000 + "1]").encode()),
    lambda: _make("80,000 names, the last one twice", _names(80_000)),
    lambda: Shape("headers of 400 kB", KEY, b"{", (("big", b"h" * 400_000), ("hp-source-offset", b"0"))),
    lambda: Shape("key of 200 kB", b"k" * 200_000, event().encode()),
)


def _names(count: int) -> bytes:
    named = ",".join(f'"{number}":1' for number in range(count))
    return f'{{{named},"{count - 1}":1}}'.encode()


def bombs() -> list[Shape]:
    """Values that compress a thousand times: they reach a worker although no broker would take them as they are."""
    return [
        _make("bomb: open brackets", b"[" * 40_000_000),
        _make("bomb: a list of lists", b"[" + b"[]," * 10_000_000 + b"1]"),
        _make("bomb: integral floats", event(more=',"n":[' + "1.0," * 10_000_000 + "1]").encode()),
        _make("bomb: objects, escaped", event(more=',"n":["\\u0061"' + ',{"":1}' * 5_000_000 + "]").encode()),
        _make("bomb: digits", event(more=',"n":' + "9" * 40_000_000).encode()),
        _make("bomb: one long text", event(more=',"n":"' + "y" * 100_000_000 + '"').encode()),
        _make("bomb: near the limit of values", event(msg_id="{}", more=',"n":[' + "1," * 900_000 + "1]").encode()),
    ]


def swarm() -> list[Shape]:
    """Many records that are large only when they are unpacked, so that one fetch holds all of them."""
    return [_make("swarm", event(user="true", more=',"n":["\\u0061"' + ",1" * 400_000 + "]").encode())] * 40
