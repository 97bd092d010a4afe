"""What of the mails is right, and what isn't."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.mailing import DEMAND, compare
from tests.oracle.report import Report


@pytest.mark.parametrize(
    ("sent", "doubt", "differs"),
    [
        ("ab", "c", []),
        ("abc", "c", []),  # another one was under way, and arrived
        ("abb", "c", ["mail sent twice"]),
        ("abbc", "b", ["mail sent twice"]),
        ("a", "c", ["missing mail"]),
        ("abd", "c", ["mail without a notification"]),
        ("abc", "", ["claims of dead workers that were used"]),
    ],
)
def test_each_is_mailed_once_or_in_doubt(sent: str, doubt: str, differs: list[str]) -> None:
    report = Report()
    compare(report, set("abc"), Counter(sent), set(doubt), died=1)
    assert list(report.counts) == differs


def test_no_more_can_be_in_doubt_than_were_under_way() -> None:
    wanted = {str(number) for number in range(DEMAND + 1)}
    report = Report()
    compare(report, wanted, Counter(), wanted, died=1)
    assert list(report.counts) == ["more mails in doubt than could be under way"]


def test_no_mails_at_all_are_no_proof() -> None:
    report = Report()
    compare(report, set(), Counter(), set(), died=0)
    assert not report.ok
