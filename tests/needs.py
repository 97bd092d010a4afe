"""What a test needs and this machine doesn't have."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip the test with this reason; fail it in CI, which must not turn green by skipping."""
    if os.environ.get("CI"):
        pytest.fail(f"a must in CI: {reason}", pytrace=False)
    pytest.skip(reason)
