"""The version before, built once for all tests."""

from __future__ import annotations

import pytest

from tests.needs import missing
from tests.upgrade.versions import NoVersionBefore, Version, version_before


@pytest.fixture(scope="session")
def old() -> Version:
    try:
        return version_before()
    except NoVersionBefore as reason:
        missing(f"the version before: {reason}")
