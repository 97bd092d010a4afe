"""The view on a terminal: the story scrolls above, the numbers stand below."""

from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from pipeline.demo.verdict import Row
from pipeline.demo.view import View, adds_up, sentence
from pipeline.demo.watch import Partition, Standing

STYLES = {
    "outage": "bold yellow", "alert": "bold red", "closed": "bold green", "kill": "bold magenta", "rejected": "cyan",
    "ready": "green", "failed": "bold red",
}  # fmt: skip


class Screen(View):
    """rich's live display; `note` prints above it."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self._console = Console(highlight=False)
        self._bar = Progress(
            TextColumn("{task.description:>5}"), BarColumn(bar_width=None), MofNCompleteColumn(), expand=True
        )
        self._fed, self._done = self._bar.add_task("fed", total=total), self._bar.add_task("done", total=total)
        self._live = Live(console=self._console, refresh_per_second=8, transient=True)
        self._closed = False

    def note(self, kind: str, text: str) -> None:
        line = Table.grid(padding=(0, 2))
        line.add_column(min_width=7)
        line.add_column(min_width=8)
        line.add_column(ratio=1)
        line.add_row(Text(f"{self.at_s():5.1f} s", "dim"), Text(kind, STYLES.get(kind, "bold")), Text(text))
        self._console.print(line)

    def progress(self, fed: int, standing: Standing) -> None:
        self._bar.update(self._fed, completed=fed)
        self._bar.update(self._done, completed=min(standing.done, self.total))
        errors = "  ".join(f"{name} {number}" for name, number in standing.errors.most_common()) or "none"
        foot = Text.assemble(("errors  ", "bold"), (errors, "cyan"))
        self._live.update(Group(Text(), self._bar, _table(standing), Padding(foot, (0, 1))))
        if not self._live.is_started and not self._closed:
            self._live.start()

    def verdict(self, rows: Sequence[Row]) -> None:
        self.close()
        table = Table(
            title="the verdict of an independent count",
            title_style="bold",
            title_justify="left",
            box=None,
            pad_edge=False,
        )
        table.add_column("")
        table.add_column("must be", justify="right")
        table.add_column("found", justify="right")
        table.add_column("")
        for row in rows:
            mark = (
                Text.assemble(("✗ ", "bold red"), (row.trouble, "red"))
                if row.trouble
                else Text.assemble(("✓ ", "bold green"), (row.note, "dim"))
            )
            table.add_row(row.name, f"{row.wanted:,}", f"{row.found:,}", mark)
        self._console.print()
        self._console.print(table)
        self._console.print()
        self._console.print(Text(sentence(rows), "bold green" if adds_up(rows) else "bold red"))

    def close(self) -> None:
        self._closed = True
        if self._live.is_started:
            self._live.stop()


def _table(standing: Standing) -> Table:
    table = Table(box=None, expand=True, header_style="dim", padding=(0, 1))
    table.add_column("partition")
    table.add_column("worker")
    for name in ("done", "lag", "per s", "outputs' lag"):
        table.add_column(name, justify="right")
    table.add_column("state", ratio=1)
    for one in standing.partitions:
        state = Text(*_state(one))
        table.add_row(
            str(one.number), one.worker or "-", f"{one.done:,}", f"{one.lag:,}", f"{one.per_s:,.0f}",
            f"{one.outputs_lag:,}", state,
        )  # fmt: skip
    return table


def _state(one: Partition) -> tuple[str, str]:
    """In words, and how they look."""
    if one.blocked:
        return one.blocked, "bold red"
    if not one.worker:
        return "nobody's", "bold magenta"
    return ("runs", "green") if one.ready else ("rebalance", "yellow")
