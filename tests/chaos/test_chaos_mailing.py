"""What of the mails is right, and what isn't."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.mailing import compare
from tests.oracle.report import Report


@pytest.mark.parametrize(
    ("sent", "doubt", "differs"),
    [
        ("abc", "", []),
        ("ab", "c", []),  # the worker died, and nobody knows
        ("abc", "c", []),  # it died after the mail
        ("abbc", "", ["mail sent twice"]),
        ("abb", "c", ["mail sent twice"]),
        ("abbc", "b", ["mail sent twice"]),
        ("ab", "", ["missing mail"]),
        ("abcd", "", ["mail without a notification"]),
        ("", "abc", ["more mails in doubt than could be under way"]),
    ],
)
def test_each_is_mailed_once_or_in_doubt(sent: str, doubt: str, differs: list[str]) -> None:
    report = Report()
    compare(report, set("abc"), Counter(sent), set(doubt), doubt_max=2)
    assert list(report.counts) == differs


def test_no_mails_at_all_are_no_proof() -> None:
    report = Report()
    compare(report, set(), Counter(), set(), doubt_max=2)
    assert not report.ok
