"""The command line: wrong usage ends with status 2 before anything is started."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from tests.chaos.__main__ import GUARANTEES, main


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--brokers", "2"], "--brokers"),
        (["--kills", "-1"], "--kills"),
        (["--guarantee", "at_most_once"], "--guarantee"),
        (["--events", "1000", "--kills", "50"], "need at least"),
        (["--planted", "no-such-bug"], "no-such-bug"),
    ],
)
def test_wrong_usage_ends_with_status_2(arguments: list[str], says: str) -> None:
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == 2
    assert says in ended.output


def test_the_guarantees_on_offer_are_those_that_the_setting_accepts() -> None:
    assert "at_least_once" in GUARANTEES
    shown = CliRunner().invoke(main, ["--help"]).output
    assert all(guarantee in shown for guarantee in GUARANTEES)
