"""Messages as the bytes of a row on the disk, and back. A row holds consecutive messages of one topic-partition."""

import struct
from collections.abc import Sequence

from pipeline.producer.arguments import size_of
from pipeline.producer.message import NO_HEADERS, OVERHEAD_BYTES, Letter, Message

_FRAME = struct.Struct(">qiiH")
_HEADER = struct.Struct(">Hi")
NONE = -1


class RowBroken(ValueError):
    """The bytes are no row."""


def encode(messages: Sequence[Letter]) -> bytes:
    """One row."""
    parts: list[bytes] = []
    for message in messages:
        key, value, headers = message.key, message.value, message.headers
        parts.append(
            _FRAME.pack(
                message.timestamp_ms,
                NONE if key is None else len(key),
                NONE if value is None else len(value),
                len(headers),
            )
        )
        if key:
            parts.append(key)
        if value:
            parts.append(value)
        for name, text in headers:
            encoded = name.encode()
            parts += (_HEADER.pack(len(encoded), len(text)), encoded, text)
    return b"".join(parts)


def decode(row: bytes) -> list[Message]:
    """The messages of a row; RowBroken."""
    messages, at, end, unpack, frame_size = [], 0, len(row), _FRAME.unpack_from, _FRAME.size
    try:
        while at < end:
            timestamp_ms, key_size, value_size, headers_count = unpack(row, at)
            at += frame_size
            if key_size < 0 <= value_size and not headers_count:  # most, so a short way
                value_end = at + value_size
                size = OVERHEAD_BYTES + value_size
                messages.append(Message(None, row[at:value_end], NO_HEADERS, timestamp_ms, size))
                at = value_end
                continue
            key, at = _bytes(row, at, key_size)
            value, at = _bytes(row, at, value_size)
            headers: list[tuple[str, bytes]] = []
            for _ in range(headers_count):
                name_size, text_size = _HEADER.unpack_from(row, at)
                name, at = _bytes(row, at + _HEADER.size, name_size)
                text, at = _bytes(row, at, text_size)
                assert name is not None
                assert text is not None
                headers.append((name.decode(), text))
            messages.append(Message(key, value, headers, timestamp_ms, size_of(key, value, headers)))
    except (struct.error, UnicodeDecodeError, AssertionError) as error:
        raise RowBroken(str(error)) from error
    if at != end:
        raise RowBroken(f"{at - end} bytes are missing")
    return messages


def _bytes(row: bytes, at: int, size: int) -> tuple[bytes | None, int]:
    if size < 0:
        return None, at
    return row[at : at + size], at + size
