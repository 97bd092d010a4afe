"""What is wrong with a payload, one line a field."""

from collections.abc import Mapping
from typing import Any

VALUE_CHARS_MAX = 200


def differences(expected: Any, actual: Any, path: str = "data") -> list[str]:
    """How `actual` differs from `expected`; 1, 1.0 and True are three different values, as they are in JSON.

    >>> differences({"count": 1}, {"count": 2, "of": "x"})
    ['data.count: expected 1, got 2', "data.of: not expected, got 'x'"]
    """
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        lines = []
        for name in [*expected, *(name for name in actual if name not in expected)]:
            where = f"{path}.{name}"
            if name not in actual:
                lines.append(f"{where}: expected {_shown(expected[name])}, missing")
            elif name not in expected:
                lines.append(f"{where}: not expected, got {_shown(actual[name])}")
            else:
                lines.extend(differences(expected[name], actual[name], where))
        return lines
    if isinstance(expected, list | tuple) and isinstance(actual, list | tuple) and len(expected) == len(actual):
        pairs = enumerate(zip(expected, actual, strict=True))
        return [line for at, (one, other) in pairs for line in differences(one, other, f"{path}[{at}]")]
    if type(expected) is type(actual) and expected == actual:
        return []
    return [f"{path}: expected {_shown(expected)}, got {_shown(actual)}"]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= VALUE_CHARS_MAX else text[:VALUE_CHARS_MAX] + "…"
