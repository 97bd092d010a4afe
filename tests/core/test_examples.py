"""The examples in docstrings are true."""

import doctest
import importlib

import pytest

MODULES = ("core.idempotence", "core.error_record", "testing.sequences", "testing.difference")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name):
    result = doctest.testmod(importlib.import_module(f"pipeline.{name}"))
    assert result.attempted
    assert result.failed == 0
