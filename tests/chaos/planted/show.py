"""What trying the bugs says: a line for each as it goes, a table at the end."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.chaos.planted.run import Trying, try_all
from tests.chaos.show import Show


def try_planted(bugs: Sequence[str], seed: int) -> int:
    """Try each of `bugs`, and each scenario without one; the exit status."""
    with Show() as show:
        show.counts(0, "starting a broker")

        def tell(one: Trying) -> None:
            show.says(f"{'as it should' if one.as_wanted else 'NOT AS IT SHOULD'}: {_title(one)}: {one.caught_by}")
            show.steps(one.scenario)

        tried = try_all(bugs, seed, tell)
    Console(highlight=False, width=None if show.terminal else 150).print(_table(tried))
    wrong = [one for one in tried if not one.as_wanted]
    for one in wrong:
        print(f"{_title(one)}: {one.failure or one.caught_by}")
    caught = sum(bool(one.bug) and one.as_wanted for one in tried)
    print(
        f"{caught} of {len(bugs)} planted bugs caught, {sum(one.took_s for one in tried):.0f} s, seed {seed}",
        flush=True,
    )
    return 1 if wrong else 0


def _title(one: Trying) -> str:
    return f"{one.bug or 'no bug'}, {one.scenario}"


def _table(tried: Sequence[Trying]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("scenario", "bug", "caught by", "seconds"):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    for one in tried:
        table.add_row(one.scenario, one.bug or "(none)", one.caught_by, f"{one.took_s:.0f}")
    return table
