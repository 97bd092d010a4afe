"""How a bug is put into a running product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put `make(original)` where `name` is; AttributeError when the product has no such thing any more."""
    setattr(owner, name, make(getattr(owner, name)))
